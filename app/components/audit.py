"""What a data folder holds, shown before it is trained on."""

from pathlib import Path

import streamlit as st

from app.components.frame import escape, show_error
from app.components.headline import draw_headline, draw_left_out, draw_notes
from app.components.parts import draw_parts, leak_in_words, split_or_say
from app.components.readings import read_folder
from bc_model.data.splits import count_leaks, summarise_parts
from bc_model.errors import BcModelError
from bc_model.training.initial_model import known_at_first


def draw_audit(folder: Path, chosen: dict) -> dict[str, dict[str, int]] | None:
    """Draw what a folder holds and how it would be split.

    Parameters
    ----------
    folder : Path
    chosen : dict
        protocol, official_fold_file, n_folds, test_fold, split_seed, weights.

    Returns
    -------
    dict or None
        As `summarise_parts` counts; None when it cannot be trained on.
    """
    try:
        reading = read_folder(folder)
    except (BcModelError, OSError) as error:
        show_error(error, title="This folder cannot be used")
        return None
    draw_headline(reading)
    draw_left_out(reading, folder.name)
    draw_notes(reading)
    split = split_or_say(reading.manifest, chosen)
    if split is None:
        return None
    parts = summarise_parts(split)
    draw_parts(parts)
    leak = count_leaks(split)
    if leak.test_pictures or leak.pixels:
        st.caption(f":material/warning: Leak: {leak_in_words(leak)}")
    if known := known_at_first(chosen["weights"], reading.manifest, split):
        st.warning(escape(known), title="The first weights know the test part")
    return parts
