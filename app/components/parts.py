"""The subsets of a split: their contents and the leakage between them."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.components.frame import draw_sentences, show_error
from app.components.split_fields import lacks_fold_file
from bc_model.data.fold_file import read_fold_file
from bc_model.data.folds import match_folds
from bc_model.data.manifest import Manifest
from bc_model.data.names import CLASSES
from bc_model.data.protocols import LEAKY_PROTOCOLS
from bc_model.data.splits import PARTS, Leak, count_leaks, make_split
from bc_model.errors import BcModelError
from bc_model.words import many

FEW_CASES = 3
SUBSET_WORDS = {"train": "Training", "validation": "Validation", "test": "Test"}


def split_or_say(manifest: Manifest, chosen: dict) -> pd.DataFrame | None:
    """Return the split for the settings of `split_fields`, or None after an error message.

    Parameters
    ----------
    manifest : Manifest
    chosen : dict
        protocol, folds_file, n_folds, fold, split_seed.
    """
    protocol, folds_file = chosen["protocol"], chosen["folds_file"]
    if lacks_fold_file(chosen):
        st.info("This split needs an official fold file. Add one.", icon=":material/info:")
        return None
    try:
        split = make_split(
            manifest,
            protocol,
            n_folds=chosen["n_folds"],
            fold=chosen["fold"],
            seed=chosen["split_seed"],
            folds_file=folds_file,
        )
        match = match_folds(manifest, read_fold_file(Path(folds_file))) if folds_file else None
    except BcModelError as error:
        show_error(error, title="Split not possible")
        return None
    if match:
        notes = match.notes()
        if kept_out := len(manifest.pictures) - match.not_listed - len(split):
            notes.append(
                f"{kept_out:,} images are excluded from training because their case is in the test "
                "subset."
            )
        draw_sentences(notes)
    return split


def draw_parts(parts: dict[str, dict[str, int]]) -> None:
    """Draw the contents of each subset in one sentence, and a warning for few cases."""
    words = "; ".join(
        f"{part} {counts['pictures']:,} images"
        + (
            f" ({counts['benign_cases']} benign and {counts['malignant_cases']} malignant cases)"
            if counts["cases"]
            else ""
        )
        for part, counts in parts.items()
    )
    st.caption(f"Split: {words}.")
    warn_of_few(parts)


def draw_parts_table(parts: dict[str, dict[str, int]]) -> None:
    """Draw the contents of each subset as a table, and a warning for few cases."""
    rows = []
    for part in PARTS:
        counts = parts[part]
        row: dict[str, Any] = {
            "Subset": SUBSET_WORDS[part],
            "Images": counts["pictures"],
        }
        row |= {f"{name} images".capitalize(): counts[name] for name in CLASSES}
        if any(one["cases"] for one in parts.values()):
            row["Cases"] = counts["cases"]
            row |= {f"{name} cases".capitalize(): counts[f"{name}_cases"] for name in CLASSES}
        rows.append(row)
    st.dataframe(rows, hide_index=True, alt="Images and cases of each subset, by class")
    warn_of_few(parts)


def warn_of_few(parts: dict[str, dict[str, int]]) -> None:
    """Draw a warning if a subset has very few cases of a class."""
    few = min(parts[part][f"{c}_cases"] for part in ("validation", "test") for c in CLASSES)
    if 0 < few < FEW_CASES:
        st.caption(
            f":material/info: A subset contains only {many(few, 'case')} of a class. The best "
            "epoch and the test metrics depend on very few cases."
        )


def draw_leaks(split: pd.DataFrame, protocol: str) -> None:
    """Draw the leakage between the test subset and the other subsets."""
    leak = count_leaks(split)
    if leak.test_pictures or leak.pixels:
        st.error(leak_in_words(leak), title="Data leakage")
    elif protocol in LEAKY_PROTOCOLS:
        known = (split["case"] != "").all()
        st.error(
            "This split shares no case by chance, but the protocol does not prevent leakage. Its "
            "metrics are marked as with leakage."
            if known
            else "The file names contain no case, so leakage cannot be measured. Metrics of this "
            "split are marked as with leakage.",
            title="Protocol with leakage",
        )
    else:
        st.success(
            f"No leakage: none of the {leak.n_test:,} test images or their cases occurs in "
            "training or validation.",
            icon=":material/verified:",
        )


def leak_in_words(leak: Leak) -> str:
    """Return the leakage of a split in two or three sentences."""
    words = (
        f"{_of(leak.test_pictures, leak.n_test)} test images, of {many(leak.cases, 'case')}, "
        "have other images of their case in training or validation"
    )
    if leak.n_benign_test:
        words += f"; of the benign images {_of(leak.benign_test_pictures, leak.n_benign_test)}"
    words += ". A model can recognize the slide, so all metrics overestimate performance."
    if leak.pixels:
        words += f" {leak.pixels:,} are exact duplicates of images in training or validation."
    return words


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({count / total:.0%})"
