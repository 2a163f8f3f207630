"""Which pictures of a set a model knows: it learned from them or was chosen by them.

Pixels are compared with the split of the model's run, if that lies beside it, or with the pictures
of its cross-validation, which it learned from in the end. Cases are compared by the BreakHis
grammar alone: elsewhere a number names another patient. Of a case that it has seen one picture of,
it knows all.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from bc_model.data.names import parse_name
from bc_model.data.splits import read_split
from bc_model.evaluation.crossed import CROSS_VALIDATED_FILE
from bc_model.evaluation.predictions import read_predictions
from bc_model.serving.bundle import Bundle, file_sha256


class Known(NamedTuple):
    """What of some pictures a model knows.

    Attributes
    ----------
    pictures : ndarray of shape (n,), bool
        False does not say that one was not seen: a picture that was resized or packed with losses
        has other pixels.
    certain : bool
        False where its own pictures could not be told by their pixels, or the case of some of the
        others is not stated.
    notes : list of str
        What a reader should know of it.
    """

    pictures: np.ndarray
    certain: bool
    notes: list[str]

    @property
    def number(self) -> int:
        """How many it knows."""
        return int(self.pictures.sum())


def known_to(bundle: Bundle, pictures: pd.DataFrame) -> Known:
    """Find the pictures that a model knows.

    Parameters
    ----------
    bundle : Bundle
    pictures : DataFrame
        Rows of a manifest or split: path, sha256, case, group.

    Returns
    -------
    Known
        In the order of the rows.
    """
    names = [parse_name(path.rpartition("/")[2]) for path in pictures["path"]]
    seen = pd.Series(
        [name is not None and name.case in bundle.known_cases for name in names],
        index=pictures.index,
    )
    pixels = _known_pixels(bundle)
    if pixels is not None:
        seen |= pictures["sha256"].isin(pixels)
    of_a_case = pictures["case"] != ""
    # Cases that share a picture are one group.
    seen |= of_a_case & pictures["group"].isin(pictures.loc[seen & of_a_case, "group"])
    notes = []
    if number := int(seen.sum()):
        notes.append(
            f"{number} of {len(pictures)} pictures are the model's own or of its cases: it learned "
            "from them, or was chosen by them."
        )
    if pixels is None:
        notes.append(
            "No list of this model's own pictures lies beside it, so whether it knows these very "
            "pictures cannot be told; only BreakHis names were held against the cases it knows."
        )
    certain = pixels is not None and bool(of_a_case[~seen].all())
    return Known(seen.to_numpy(bool), certain, notes)


def _known_pixels(bundle: Bundle) -> set[str] | None:
    """Return the hashes of what the model was made from; None where no list is beside it."""
    crossed = bundle.folder / CROSS_VALIDATED_FILE
    if crossed.is_file():  # in older passports it is not listed; it can only make more known
        return set(read_predictions(crossed)["sha256"])
    file = bundle.folder.resolve().parent / "split.csv"
    if not file.is_file() or file_sha256(file) != bundle.passport["data"]["split_sha256"]:
        return None
    split = read_split(file)
    return set(split.loc[split["part"] != "test", "sha256"])
