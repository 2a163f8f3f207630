"""What the official fold files share between training and test, counted from names and pixels."""

from dataclasses import dataclass

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.fold_file import FoldFile
from bc_model.data.manifest import Manifest
from bc_model.data.names import CLASSES, name_key
from bc_model.errors import DataError


@dataclass(frozen=True)
class SiblingLeak:
    """How much of a test part has a sibling section in training.

    Attributes
    ----------
    test, benign_test : int
        Test pictures, and those of them that are benign.
    shared, benign_shared : int
        Those whose slide number has pictures in training, at any magnification.
    """

    test: int
    shared: int
    benign_test: int
    benign_shared: int

    @property
    def share(self) -> float | None:
        """Of the test pictures, 0 to 1; None when there are none."""
        return self.shared / self.test if self.test else None

    @property
    def benign_share(self) -> float | None:
        """Of the benign test pictures, 0 to 1; None when there are none."""
        return self.benign_shared / self.benign_test if self.benign_test else None


@dataclass(frozen=True)
class TwinLeak:
    """How many test pictures stand in training under another name, pixel for pixel.

    Attributes
    ----------
    listed, not_listed : int
        Pictures of the data, each name counted, that the file lists and does not list.
    absent : int
        Names of the file without a picture in the data: of these nothing can be said.
    test, benign_test : int
        Listed pictures that stand in test.
    shared, benign_shared : int
        Those of them whose pixels stand in training too.
    """

    listed: int
    not_listed: int
    absent: int
    test: int
    shared: int
    benign_test: int
    benign_shared: int


def count_siblings(folds: FoldFile) -> dict[str, SiblingLeak]:
    """Count over all names of a fold file; no picture is needed.

    Returns
    -------
    dict
        'all', then each magnification such as '40X'.
    """
    names = folds.names
    in_training = set(names.loc[names["side"] == "train", "case"])
    test = names[names["side"] == "test"]
    leaks = {"all": _count(test, in_training)}
    for magnification in sorted(set(names["magnification"])):
        rows = test[test["magnification"] == magnification]
        leaks[f"{magnification}X"] = _count(rows, in_training)
    return leaks


def check_siblings(file: str, leak: SiblingLeak) -> tuple[Check, ...]:
    """Check that no section of a test slide is in the training subset of a fold file."""
    if not leak.shared:
        return ()
    return (
        make_check(
            "BC271",
            file=file,
            n_shared=leak.shared,
            n_test=leak.test,
            proportion=leak.share,
            n_benign=leak.benign_shared,
            n_benign_test=leak.benign_test,
        ),
    )


def _count(test: pd.DataFrame, in_training: set[str]) -> SiblingLeak:
    shared = test["case"].isin(in_training)
    benign = test["class"] == CLASSES[0]
    return SiblingLeak(
        test=len(test),
        shared=int(shared.sum()),
        benign_test=int(benign.sum()),
        benign_shared=int((shared & benign).sum()),
    )


def count_twins(folds: FoldFile, manifest: Manifest) -> TwinLeak:
    """Count over the pictures that are present.

    Parameters
    ----------
    folds : FoldFile
    manifest : Manifest
        Both names of a twin count here: the manifest keeps the first and lists the others.

    Raises
    ------
    DataError
        None of the pictures is listed.
    """
    kept = manifest.pictures[["path", "sha256", "class"]]
    first = kept.set_index("path").loc[manifest.twins["twin_of"]].reset_index(drop=True)
    files = pd.concat([kept, first.assign(path=manifest.twins["path"])], ignore_index=True)
    keys = files["path"].map(lambda path: name_key(path.rpartition("/")[2]))
    side = keys.map(folds.names.set_index("key")["side"])
    listed = side.notna()
    if not listed.any():
        raise DataError(
            f"None of the {len(files)} pictures under {manifest.root} is listed in {folds.path}; "
            "it is the fold file of another data set."
        )
    test = files[side == "test"]
    shared = test["sha256"].isin(files.loc[side == "train", "sha256"])
    benign = test["class"] == CLASSES[0]
    return TwinLeak(
        listed=int(listed.sum()),
        not_listed=int((~listed).sum()),
        absent=int((~folds.names["key"].isin(keys[listed])).sum()),
        test=len(test),
        shared=int(shared.sum()),
        benign_test=int(benign.sum()),
        benign_shared=int((shared & benign).sum()),
    )
