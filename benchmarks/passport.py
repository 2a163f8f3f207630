"""A passport for a model that nobody trained: benchmarks need the speed of one, not its answers."""

from typing import Any

import bc_model
from bc_model.data.names import CLASSES
from bc_model.serving.passport import INTENDED_USE, LIMITS, SCHEMA_VERSION


def dummy_passport(image_size: tuple[int, int]) -> dict[str, Any]:
    """Return a valid passport that says it describes random weights."""
    parts = {"train": 0, "validation": 0, "test": 0}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": "benchmark",
        "version": bc_model.__version__,
        "created": "1970-01-01T00:00:00+00:00",
        "architecture": {"backbone": "resnet50", "initial_weights": "none", "parameters": 0},
        "classes": list(CLASSES),
        "input": {
            "height_px": image_size[0],
            "width_px": image_size[1],
            "channels": "RGB",
            "range": [0, 255],
            "preprocessing": "in the graph: caffe",
            "training_sizes": [],
        },
        "scale": {"magnifications": [], "mpp_range": {}, "source": "none: random weights"},
        "data": {
            "manifest_sha256": "0" * 64,
            "split_sha256": "0" * 64,
            "protocol": "none",
            "leaky": False,
            "drawn": True,
            "pictures": parts,
            "cases": parts,
            "training_cases": [],
            "validation_cases": [],
            "licence": "none: random weights",
        },
        "metrics": {},
        "threshold": {"value": 0.5, "chosen": "none: random weights"},
        "temperature": {"value": 1.0, "chosen": "none: random weights"},
        "precisions": {},
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
    }
