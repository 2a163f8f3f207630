"""What the parts of a split hold, and what they share."""

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


def split_or_say(manifest: Manifest, chosen: dict) -> pd.DataFrame | None:
    """Make the split that `split_fields` chose, or say why it cannot be made.

    Parameters
    ----------
    manifest : Manifest
    chosen : dict
        protocol, official_fold_file, n_folds, test_fold, split_seed.
    """
    protocol, folds_file = chosen["protocol"], chosen["official_fold_file"]
    if lacks_fold_file(chosen):
        st.info("This split needs an official fold file: add one.", icon=":material/info:")
        return None
    try:
        split = make_split(
            manifest,
            protocol,
            n_folds=chosen["n_folds"],
            fold=chosen["test_fold"],
            seed=chosen["split_seed"],
            folds_file=folds_file,
        )
        match = match_folds(manifest, read_fold_file(Path(folds_file))) if folds_file else None
    except BcModelError as error:
        show_error(error, title="This data cannot be split so")
        return None
    if match:
        notes = match.notes()
        if kept_out := len(manifest.pictures) - match.not_listed - len(split):
            notes.append(
                f"{kept_out:,} pictures were kept out of training because their case is in test."
            )
        draw_sentences(notes)
    return split


def draw_parts(parts: dict[str, dict[str, int]]) -> None:
    """Draw what each part holds in one sentence, and warn of parts with few cases."""
    words = "; ".join(
        f"{part} {counts['pictures']:,} pictures"
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
    """Draw the same as a table, and warn of parts with few cases."""
    rows = []
    for part in PARTS:
        counts = parts[part]
        row: dict[str, Any] = {"Part": part.capitalize(), "Pictures": counts["pictures"]}
        row |= {f"{name} pictures".capitalize(): counts[name] for name in CLASSES}
        if any(one["cases"] for one in parts.values()):
            row["Cases"] = counts["cases"]
            row |= {f"{name} cases".capitalize(): counts[f"{name}_cases"] for name in CLASSES}
        rows.append(row)
    st.dataframe(rows, hide_index=True, alt="Pictures and cases of each part, by class")
    warn_of_few(parts)


def warn_of_few(parts: dict[str, dict[str, int]]) -> None:
    """Say it when a part has so few cases that its figures mean little."""
    few = min(parts[part][f"{c}_cases"] for part in ("validation", "test") for c in CLASSES)
    if 0 < few < FEW_CASES:
        st.caption(
            f":material/info: A part with {few} {'case' if few == 1 else 'cases'} of a class: the "
            "choice of the best epoch and the test figures hang on very few patients."
        )


def draw_leaks(split: pd.DataFrame, protocol: str) -> None:
    """Say in plain words what test shares with training: in red when it does, or may."""
    leak = count_leaks(split)
    if leak.test_pictures or leak.pixels:
        st.error(leak_in_words(leak), title="This split leaks")
    elif protocol in LEAKY_PROTOCOLS:
        known = (split["case"] != "").all()
        st.error(
            "Nothing is shared in this very split, by luck. The protocol does not prevent it, and "
            "figures from it are marked as leaky."
            if known
            else "The names say no case, so nobody can tell what test shares with training. "
            "Figures from this split are marked as leaky.",
            title="This protocol is leaky",
        )
    else:
        st.success(
            f"Test shares nothing with training or validation: none of its {leak.n_test:,} "
            "pictures stands there, and none of their cases.",
            icon=":material/verified:",
        )


def leak_in_words(leak: Leak) -> str:
    words = (
        f"{_of(leak.test_pictures, leak.n_test)} test pictures, of "
        f"{many(leak.cases, 'case')}, have other pictures of their case in training or validation"
    )
    if leak.n_benign_test:
        words += f"; among the benign ones {_of(leak.benign_test_pictures, leak.n_benign_test)}"
    words += ". A model can know them by their slide, and every figure flatters."
    if leak.pixels:
        words += f" {leak.pixels:,} stand in training or validation pixel for pixel."
    return words


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({count / total:.0%})"
