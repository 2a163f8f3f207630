"""The form fields of a split, shared by the pages Data and Train."""

from typing import Any

import streamlit as st

from app.components.fold_files import choose_fold_file
from bc_model.data.protocols import FOLDS_PROTOCOLS
from bc_model.training.settings import OPTIONS

PROTOCOL_WORDS = {
    "case": "Case-level",
    "folds-clean": "Official folds, leakage-free",
    "folds": "Official folds, with leakage",
    "folder": "Section-level, with leakage",
    "image": "Image-level, with leakage",
}


def draw_protocol() -> dict[str, Any]:
    """Draw the protocol and, if it needs one, the fold file.

    Returns
    -------
    dict
        protocol, official_fold_file ('' if there is none yet or none is needed).
    """
    protocol = st.selectbox(
        OPTIONS["protocol"].label,
        list(PROTOCOL_WORDS),
        format_func=PROTOCOL_WORDS.__getitem__,
        key="protocol",
        persist_state="session",
        help=OPTIONS["protocol"].help,
    )
    fold_file = choose_fold_file() if protocol in FOLDS_PROTOCOLS else ""
    return {"protocol": protocol, "official_fold_file": fold_file}


def draw_folds(protocol: str) -> dict[str, Any]:
    """Draw the number of folds and the test fold.

    Returns
    -------
    dict
        n_folds, test_fold.
    """
    uses_file = protocol in FOLDS_PROTOCOLS
    n_folds = _draw_number("n_folds", label="Training folds" if uses_file else None)
    # The test fold no longer exists after the number of folds was reduced.
    if st.session_state.get("fold", 0) >= n_folds:
        st.session_state["fold"] = n_folds - 1
    test_fold = _draw_number(
        "test_fold", label="Validation fold" if uses_file else None, key="fold", high=n_folds - 1
    )
    return {"n_folds": n_folds, "test_fold": test_fold}


def draw_split_seed() -> dict[str, Any]:
    """Draw the seed of the split.

    Returns
    -------
    dict
        split_seed.
    """
    return {"split_seed": _draw_number("split_seed")}


def _draw_number(
    name: str, *, label: str | None = None, key: str | None = None, high: int | None = None
) -> int:
    """Draw a field of `TrainingConfig` with a value that the pages Data and Train share."""
    option = OPTIONS[name]
    return int(
        st.number_input(
            label or option.label,
            option.ge,
            option.le if high is None else high,
            option.default,
            key=key or name,
            persist_state="session",
            help=option.help,
        )
    )


def lacks_fold_file(chosen: dict) -> bool:
    """Return whether the protocol needs a fold file that is not selected yet."""
    return chosen["protocol"] in FOLDS_PROTOCOLS and not chosen["official_fold_file"]
