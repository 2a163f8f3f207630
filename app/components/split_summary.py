"""The subsets of a split: their contents, checks, and the leakage between them."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.components.checks import show_checks
from app.components.layout import format_list, show_error
from app.components.split_form import lacks_fold_file
from bc_model.checks import Severity, make_check
from bc_model.data import (
    CLASSES,
    SUBSETS,
    Dataset,
    check_leakage,
    check_subsets,
    make_split,
    match_folds,
    read_fold_file,
)
from bc_model.errors import BcModelError

SUBSET_LABELS = {"train": "Training", "validation": "Validation", "test": "Test"}


def split_dataset(dataset: Dataset, chosen: dict) -> pd.DataFrame | None:
    """Return the split of a dataset, or None after an error message.

    Parameters
    ----------
    dataset : Dataset
        The images to split.
    chosen : dict
        protocol, official_fold_file, n_folds, test_fold, split_seed.
    """
    protocol, fold_file = chosen["protocol"], chosen["official_fold_file"]
    if lacks_fold_file(chosen):
        st.info("This split needs an official fold file.", icon=":material/info:")
        return None
    try:
        split = make_split(
            dataset,
            protocol,
            n_folds=chosen["n_folds"],
            test_fold=chosen["test_fold"],
            seed=chosen["split_seed"],
            official_fold_file=fold_file,
        )
        match = match_folds(dataset, read_fold_file(Path(fold_file))) if fold_file else None
    except BcModelError as error:
        show_error(error, title="Split not possible")
        return None
    if match:
        checks = match.checks()
        if n_excluded := len(dataset.images) - match.n_unlisted - len(split):
            checks.append(make_check("BC264", n_excluded=n_excluded))
        show_checks(checks)
    return split


def show_subsets(subsets: dict[str, dict[str, int]]) -> None:
    """Show the contents of each subset in one sentence, and the checks of the subsets."""
    contents = "; ".join(
        f"{SUBSET_LABELS[subset].lower()} {counts['images']:,} images"
        + (
            f" ({counts['benign_cases']} benign and {counts['malignant_cases']} malignant cases)"
            if counts["cases"]
            else ""
        )
        for subset, counts in subsets.items()
    )
    st.caption(f"Split: {contents}.")
    show_checks(check_subsets(subsets))


def show_subset_table(subsets: dict[str, dict[str, int]]) -> None:
    """Show the contents of each subset as a table, and the checks of the subsets."""
    rows = []
    for subset in SUBSETS:
        counts = subsets[subset]
        row: dict[str, Any] = {
            "Subset": SUBSET_LABELS[subset],
            "Images": counts["images"],
        }
        row |= {f"{name} images".capitalize(): counts[name] for name in CLASSES}
        if any(other["cases"] for other in subsets.values()):
            row["Cases"] = counts["cases"]
            row |= {f"{name} cases".capitalize(): counts[f"{name}_cases"] for name in CLASSES}
        rows.append(row)
    st.dataframe(rows, hide_index=True, alt="Images and cases of each subset, by class")
    show_checks(check_subsets(subsets))


def show_leakage(split: pd.DataFrame, protocol: str) -> None:
    """Show the leakage between the test subset and the other subsets."""
    checks = check_leakage(split, protocol)
    if all(check.severity == Severity.INFO for check in checks):
        st.success(format_list(check.message for check in checks), icon=":material/verified:")
    else:
        show_checks(checks)
