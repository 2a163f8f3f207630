"""Model cards for tests: mutated cards, and the uncertain range of a card."""

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bc_model.checks import make_check
from bc_model.errors import BundleError
from bc_model.inference import BUNDLED_MODELS_DIR, Bundle
from bc_model.inference.model_card import (
    MODEL_CARD_FILE,
    SelectivePoint,
    SelectiveSummary,
    UncertainBand,
    read_model_card,
)
from bc_model.utils.measurement import Metric

SOURCE = BUNDLED_MODELS_DIR / "breakhis-scratch"
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 1.5, -0.0, 1e-308, 1e300, 10**30, float("nan"), "", " ", "x", "../x",
    "\x00", "\ud800", "a\nb", "<script>", "y" * 30_000, [], [0], [None], {}, {"": 0}, {"x": {}},
)  # fmt: skip


def selective_summary(low: float, high: float, threshold: float = 0.5) -> SelectiveSummary:
    """Return a record with an uncertain range, measured on 60 images of 12 cases."""

    def metric(value: float) -> Metric:
        return Metric(value, value - 0.02, value + 0.02, 60, 12, "m")

    curve = (
        SelectivePoint(3.0, 0.4, 0.0, None, None, 24, 9),
        SelectivePoint(0.0, 1.0, 0.2, 0.1, 0.3, 60, 12),
    )
    band = UncertainBand(low, high, metric(0.71), metric(0.033), metric(0.72), metric(0.077))
    check = make_check("BC190", n_cases=6, class_name="benign", alpha=0.05, min_cases=19)
    return SelectiveSummary(
        "validation images", threshold, 0.05, 60, 12, band, curve, checks=(check,)
    )


def mutated_bundles(n: int, folder: Path, seed: int = 0) -> Iterator[Bundle]:
    """Yield those of `n` copies of the bundled model with mutated cards that can be opened."""
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("served.bin"))
    card = json.loads((SOURCE / MODEL_CARD_FILE).read_text(encoding="utf-8"))
    generator = random.Random(seed)
    for _ in range(n):
        mutated = copy.deepcopy(card)
        for _ in range(generator.choice((1, 1, 1, 2, 4))):
            _mutate(mutated, generator)
        (folder / MODEL_CARD_FILE).write_text(json.dumps(mutated), encoding="utf-8")
        try:
            yield Bundle(folder, read_model_card(folder))
        except BundleError:
            continue


def _mutate(card: dict[str, Any], generator: random.Random) -> None:
    parent: Any = card
    key: Any = generator.choice(list(card))
    while isinstance(parent[key], (dict, list)) and parent[key] and generator.random() < 0.85:
        parent = parent[key]
        key = generator.choice(list(parent if isinstance(parent, dict) else range(len(parent))))
    action = generator.choice(("value", "value", "near", "near", "delete", "double", "swap"))
    value = parent[key]
    if action == "near" and isinstance(value, (int, float)) and not isinstance(value, bool):
        parent[key] = generator.choice((-value, value + 1, value * 1e6, value / 1e6, int(value)))
    elif action == "near" and isinstance(value, str) and value:
        place = generator.randrange(len(value))
        parent[key] = value[:place] + generator.choice("\x1b\n0é-_ ") + value[place + 1 :]
    elif action == "delete":
        del parent[key]
    elif action == "double" and isinstance(parent, list):
        parent.append(value)
    elif action == "swap" and isinstance(parent, dict):
        other = generator.choice(list(parent))
        parent[key], parent[other] = parent[other], parent[key]
    else:
        parent[key] = generator.choice(_VALUES)
