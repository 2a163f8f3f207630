"""Published results and their ranges."""

import pytest

from bc_model.data.splits import PROTOCOLS
from bc_model.evaluation.checks import MAX_PLAUSIBLE
from bc_model.evaluation.published_results import PUBLISHED_RESULTS, published_ranges


def test_published_ranges_contain_results_of_a_protocol() -> None:
    by_image, by_folder = published_ranges("accuracy")
    assert (by_image.protocol, by_image.lowest, by_image.highest) == ("image", 0.9669, 0.9975)
    assert (by_folder.protocol, by_folder.lowest, by_folder.highest) == ("folder", 0.858, 0.927)
    assert [(b.protocol, b.lowest, b.highest) for b in published_ranges("roc_auc")] == [
        ("folder", 0.956, 0.967)
    ]


@pytest.mark.parametrize("metric", ["balanced_accuracy", "sensitivity", "model", "source"])
def test_published_ranges_unpublished_metric_is_empty(metric: str) -> None:
    assert published_ranges(metric) == []


def test_published_results_have_protocol_and_source() -> None:
    for one in PUBLISHED_RESULTS:
        assert one.protocol in PROTOCOLS
        assert one.source
        assert all(0 < value < 1 for value in (*one.accuracy, *one.roc_auc))


def test_published_ranges_section_level_are_plausible() -> None:
    assert all(
        published_range.highest <= MAX_PLAUSIBLE
        for metric in ("accuracy", "roc_auc")
        for published_range in published_ranges(metric)
        if published_range.protocol == "folder"
    )
