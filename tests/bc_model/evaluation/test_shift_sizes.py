"""Checks of the image sizes of an external dataset."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bc_model.checks import make_check
from bc_model.evaluation.shift_words import check_sizes
from bc_model.serving.bundle import Bundle
from bc_model.serving.sizes import size_facts


def images(*rows: tuple[int, int, int | None]) -> pd.DataFrame:
    """Return rows of (width_px, height_px, magnification)."""
    table = pd.DataFrame(rows, columns=["width_px", "height_px", "magnification"])
    return table.astype({"magnification": "Int64"})


@pytest.fixture
def bundle() -> Bundle:
    """Return a model for 160 x 240 px, trained on original and on resized frames."""
    seen = images(*[(224, 224, 200)] * 3, *[(700, 460, 100)] * 2, (700, 456, 100))
    given: dict[str, Any] = {"height_px": 160, "width_px": 240, **size_facts(seen)}
    return Bundle(Path(), {"input": given})


def test_check_sizes_mixed_dataset_counts_each_image_once(bundle: Bundle) -> None:
    dataset = images(
        (50, 50, None), (50, 50, None), (100, 100, None),
        (224, 224, None), (224, 224, 200), (700, 460, None), (512, 512, None), (512, 512, 40),
    )  # fmt: skip
    upsampled, resized, other = check_sizes(dataset, bundle)
    sizes = "224 x 224 and 700 x 460 and 700 x 456"
    assert upsampled.code == "BC311"
    assert (upsampled.params["n_upsampled"], upsampled.params["n"]) == (3, 8)
    assert upsampled.params["min_factor"] == pytest.approx(2.4)
    assert upsampled.params["max_factor"] == pytest.approx(4.8)
    assert resized == make_check("BC312", n_resized=1, n=8)
    assert other == make_check("BC313", n_other=2, n=8, training_sizes=sizes)


def test_check_sizes_training_sizes_returns_no_check(bundle: Bundle) -> None:
    assert list(check_sizes(images((700, 460, 100), (224, 224, 200)), bundle)) == []
