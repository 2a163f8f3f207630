"""The form fields of a split, shared by the pages Data and Train."""

from typing import Any

import streamlit as st

from app.components.fold_files import choose_fold_file
from bc_model.data.protocols import FOLDS_PROTOCOLS

PROTOCOL_WORDS = {
    "case": "Case-level",
    "folds-clean": "Official folds, leakage-free",
    "folds": "Official folds, with leakage",
    "folder": "Section-level, with leakage",
    "image": "Image-level, with leakage",
}
PROTOCOL_HELP = "Only case-level and leakage-free splits keep all images of a case in one subset."


def draw_protocol() -> dict[str, Any]:
    """Draw the protocol and, if it needs one, the fold file.

    Returns
    -------
    dict
        protocol, folds_file ('' if there is none yet or none is needed).
    """
    protocol = st.selectbox(
        "Split",
        list(PROTOCOL_WORDS),
        format_func=PROTOCOL_WORDS.__getitem__,
        key="protocol",
        persist_state="session",
        help=PROTOCOL_HELP,
    )
    folds_file = choose_fold_file() if protocol in FOLDS_PROTOCOLS else ""
    return {"protocol": protocol, "folds_file": folds_file}


def draw_folds(protocol: str) -> dict[str, Any]:
    """Draw the number of folds and the test fold.

    Returns
    -------
    dict
        n_folds, fold.
    """
    of_file = protocol in FOLDS_PROTOCOLS
    n_folds = int(
        st.number_input(
            "Training folds" if of_file else "Folds",
            3,
            50,
            5,
            key="n_folds",
            persist_state="session",
            help="The file defines the test images; one fold of the others is for validation."
            if of_file
            else "One fold is for testing, one for validation, the others for training.",
        )
    )
    # The fold no longer exists after the number of folds was reduced.
    if st.session_state.get("fold", 0) >= n_folds:
        st.session_state["fold"] = n_folds - 1
    fold = st.number_input(
        "Validation fold" if of_file else "Test fold",
        0,
        n_folds - 1,
        0,
        key="fold",
        persist_state="session",
        help="The first fold is 0.",
    )
    return {"n_folds": n_folds, "fold": int(fold)}


def draw_split_seed() -> dict[str, Any]:
    """Draw the seed of the split.

    Returns
    -------
    dict
        split_seed.
    """
    seed = st.number_input(
        "Split seed",
        0,
        2**31 - 1,
        0,
        key="split_seed",
        persist_state="session",
        help="Keep it to compare training seeds on the same test subset.",
    )
    return {"split_seed": int(seed)}


def lacks_fold_file(chosen: dict) -> bool:
    """Return whether the protocol needs a fold file that is not selected yet."""
    return chosen["protocol"] in FOLDS_PROTOCOLS and not chosen["folds_file"]
