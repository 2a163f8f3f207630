"""The pictures of a run's data set, found again by the hash of their pixels.

A hash may come from a URL. It is looked up in the run's split and never made into a path, so that
no other file of the machine can be asked for.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bc_model.data.pictures import decode_picture, pixel_sha256, read_file
from bc_model.data.splits import read_split
from bc_model.errors import DataError, RunError
from bc_model.training.run_folder import RunFolder

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RunPictures:
    """The pictures that a run was trained, chosen and judged by.

    Attributes
    ----------
    run : str
        Its name.
    root : Path
        Folder of the data set; it may be gone.
    split : pandas.DataFrame
        As `read_split` returns it.
    """

    run: str
    root: Path
    split: pd.DataFrame

    @classmethod
    def of(cls, run: RunFolder) -> "RunPictures":
        """Read the split of a run and where its data set lies.

        Raises
        ------
        RunError
            The settings of the run are damaged.
        SplitError
            Its split is missing or damaged.
        """
        settings = run.read_config().get("settings")
        data = settings.get("data") if isinstance(settings, dict) else None
        if not isinstance(data, str) or not data:
            raise RunError(f"The run {run.name} does not say where its data set lies.")
        return cls(run.name, Path(data), read_split(run.split_file))

    def row(self, sha256: str) -> pd.Series:
        """Return the row of the split with these pixels.

        Raises
        ------
        DataError
            Not a hash, or of no picture of this run.
        """
        found = self.split[self.split["sha256"] == sha256]
        if not _HASH.fullmatch(sha256) or found.empty:
            raise DataError(
                f"The run {self.run} has no picture {sha256[:12]}; choose one from its error "
                "gallery."
            )
        return found.iloc[0]

    def read(self, sha256: str) -> tuple[str, bytes]:
        """Read the file of a picture, and check that its pixels are still the same.

        Parameters
        ----------
        sha256 : str
            Of the pixels.

        Returns
        -------
        path : str
            Relative to the data set.
        data : bytes
            Of the file.

        Raises
        ------
        DataError
            No such picture in this run, it lies outside its data set, or has other pixels now.
        PictureError
            The file is gone or damaged.
        """
        path = str(self.row(sha256)["path"])
        root = self.root.resolve()
        place = (root / path).resolve()
        if not place.is_relative_to(root):
            raise DataError(
                f"The picture {path} of the run {self.run} lies outside its data set {self.root} "
                "and is not opened."
            )
        data = read_file(place)
        if pixel_sha256(decode_picture(data, path)) != sha256:
            raise DataError(
                f"The picture {path} under {self.root} has other pixels than when the run "
                f"{self.run} saw it; bring the old one back, or train again."
            )
        return path, data
