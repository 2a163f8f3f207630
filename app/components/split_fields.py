"""How the data is divided: the same fields, and the same choice, on the pages Data and Train."""

from typing import Any

import streamlit as st

from app.components.fold_files import choose_fold_file
from bc_model.data.protocols import FOLDS_PROTOCOLS

PROTOCOL_WORDS = {
    "case": "By case (honest)",
    "folds-clean": "Official folds, clean (honest)",
    "folds": "Official folds (leaky)",
    "folder": "By folder (leaky)",
    "image": "By picture (leaky)",
}
PROTOCOL_HELP = (
    "By case: all pictures of a slide stay on one side. Official folds: the published files, which "
    "put sections of one slide on both sides. Clean: whose slide is in test leaves training. "
    "By folder: the same leak, dealt out anew. By picture: neighbouring fields on both sides."
)


def draw_protocol() -> dict[str, Any]:
    """Draw the protocol and, where it needs one, the fold file.

    Returns
    -------
    dict
        protocol, folds_file ('' when there is none yet or none is needed).
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
    """Draw into how many folds the cases are dealt, and which one is for test.

    Returns
    -------
    dict
        n_folds, fold.
    """
    of_file = protocol in FOLDS_PROTOCOLS
    n_folds = int(
        st.number_input(
            "Shares of the training cases" if of_file else "Folds",
            3,
            50,
            5,
            key="n_folds",
            persist_state="session",
            help="The file says what is for test. Of its training cases one share validates."
            if of_file
            else "One fold is for test, one for validation, the others for training.",
        )
    )
    # A fold that is no more, since there are fewer now.
    if st.session_state.get("fold", 0) >= n_folds:
        st.session_state["fold"] = n_folds - 1
    fold = st.number_input(
        "Share that validates" if of_file else "Test fold",
        0,
        n_folds - 1,
        0,
        key="fold",
        persist_state="session",
        help="Counted from 0.",
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
        "Seed of the split",
        0,
        2**31 - 1,
        0,
        key="split_seed",
        persist_state="session",
        help="Leave it to compare runs of several seeds on the same test part.",
    )
    return {"split_seed": int(seed)}


def lacks_fold_file(chosen: dict) -> bool:
    """Tell whether the chosen protocol needs a fold file that is not chosen yet."""
    return chosen["protocol"] in FOLDS_PROTOCOLS and not chosen["folds_file"]
