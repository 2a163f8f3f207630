"""What a model knows of a set: its own pictures, and the cases of these."""

from pathlib import Path

import pandas as pd
import pytest

from bc_model.evaluation.known import known_to
from bc_model.serving.bundle import Bundle, open_bundle
from bc_model.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def bundle(tiny_run: RunFolder) -> Bundle:
    return open_bundle(tiny_run.path)


@pytest.fixture(scope="module")
def own(tiny_run: RunFolder) -> str:
    """The hash of a picture that the model learned from."""
    split = pd.read_csv(tiny_run.split_file, dtype=str)
    return str(split.loc[split["part"] == "train", "sha256"].iloc[0])


def pictures(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Return rows of (sha256, case, group), with names of no grammar."""
    table = pd.DataFrame(rows, columns=["sha256", "case", "group"])
    return table.assign(path=[f"{i}.png" for i in range(len(rows))])


def test_of_a_case_that_it_has_seen_a_picture_of_it_knows_all(bundle: Bundle, own: str) -> None:
    known = known_to(
        bundle,
        pictures(
            (own, "a", "a"), ("1", "a", "a"),  # the same case
            ("2", "b", "a"),  # another one, which shares a picture with it
            ("3", "c", "c"), ("4", "", ""),
        ),
    )  # fmt: skip

    assert known.pictures.tolist() == [True, True, True, False, False]
    assert known.number == 3
    assert not known.certain  # the case of the last one is not stated
    assert known.notes == [
        "3 of 5 pictures are the model's own or of its cases: it learned from them, or was chosen "
        "by them."
    ]


def test_without_a_case_a_picture_says_nothing_of_others(bundle: Bundle, own: str) -> None:
    known = known_to(bundle, pictures((own, "", ""), ("1", "", "")))

    assert known.pictures.tolist() == [True, False]


def test_it_is_certain_where_all_cases_are_stated_and_its_own_pictures_listed(
    bundle: Bundle, tmp_path: Path
) -> None:
    others = pictures(("1", "a", "a"), ("2", "b", "b"))
    assert known_to(bundle, others).certain

    alone = Bundle(tmp_path / "alone", bundle.passport)
    assert not known_to(alone, others).certain
