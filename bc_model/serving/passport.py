"""The passport of a model: what it is, what it learned from, how well it did, what it is not for.

A JSON file beside the weights. Its schema is below; a passport of another version or shape is
refused rather than guessed at.
"""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import jsonschema

from bc_model.data.names import CLASSES
from bc_model.errors import BundleError
from bc_model.files import write_text_atomic
from bc_model.serving.precision import PRECISIONS
from bc_model.words import many

SCHEMA_VERSION = 1
PASSPORT_FILE = "passport.json"

INTENDED_USE = (
    "Research use only, not a diagnosis. Estimates the probability of malignancy for single fields "
    "of H&E-stained breast tissue from surgical biopsies, at the magnification named here."
)
LIMITS = (
    "The training pictures hold no normal tissue, no in-situ-only lesion and no atypia; phyllodes "
    "tumours are all filed as benign. They come from one laboratory, and a pathologist chose the "
    "fields. Anything else is outside what the model knows, and it will answer all the same."
)

_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_SIDE = {"type": "integer", "minimum": 1}
_PARTS = {
    "type": "object",
    "required": ["train", "validation", "test"],
    "additionalProperties": _COUNT,
}
_FIGURE = {
    "type": "object",
    "required": ["value", "low", "high", "n", "n_cases"],
    "properties": {name: {"type": ["number", "null"]} for name in ("value", "low", "high")}
    | dict.fromkeys(("n", "n_cases"), _COUNT),
}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": [
        "schema_version", "name", "version", "created", "architecture", "classes", "input",
        "scale", "data", "metrics", "threshold", "temperature", "precisions", "intended_use",
        "limits", "files",
    ],
    "additionalProperties": False,
    "properties": {
        "schema_version": {"const": SCHEMA_VERSION},
        # It names files when a model is exported: the rule is that of `files` below.
        "name": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"},
        "version": _TEXT,
        "created": _TEXT,
        "architecture": {
            "type": "object",
            "required": ["backbone", "initial_weights", "parameters"],
            "properties": {"backbone": _TEXT, "initial_weights": _TEXT, "parameters": _COUNT},
        },
        "classes": {"type": "array", "items": _TEXT, "minItems": 2, "uniqueItems": True},
        "input": {
            "type": "object",
            "required": [
                "height_px", "width_px", "channels", "range", "preprocessing", "training_sizes",
            ],
            "properties": {
                "height_px": _SIDE,
                "width_px": _SIDE,
                "preprocessing": _TEXT,
                "training_sizes": {"type": "array", "items": _TEXT},
                # Of official pictures that do not have the shape of a frame any more.
                "reshaped_sizes": {"type": "array", "items": _TEXT},
            },
        },
        "scale": {
            "type": "object",
            "required": ["magnifications", "mpp_range", "source"],
            "properties": {
                "magnifications": {"type": "array", "items": _COUNT},
                "mpp_range": {"type": "object"},
            },
        },
        "data": {
            "type": "object",
            "required": [
                "manifest_sha256", "split_sha256", "protocol", "leaky", "pictures", "cases",
                "training_cases", "validation_cases", "drawn", "licence",
            ],
            "properties": {
                "leaky": {"type": "boolean"},
                "drawn": {"type": "boolean"},
                "pictures": _PARTS,
                "cases": {"type": "object", "additionalProperties": _COUNT},
                "validation_cases": {"type": "array", "items": {"type": "string"}},
                "training_cases": {"type": "array", "items": {"type": "string"}},
                "initial_cases": {"type": "array", "items": {"type": "string"}},
                # Whether the first weights knew pictures or cases of the test part.
                "knew_at_first": {"type": "boolean"},
                # Whether the list of known pictures has what the first weights knew as well.
                "all_known_listed": {"type": "boolean"},
            },
        },
        "metrics": {
            "type": "object",
            "properties": {
                "test": {
                    "type": "object",
                    "properties": {
                        "figures": {"type": "object", "additionalProperties": _FIGURE},
                    },
                }
            },
        },
        "threshold": {
            "type": "object",
            "required": ["value", "chosen"],
            "properties": {
                "value": {"type": "number", "minimum": 0, "maximum": 1},
                "chosen": _TEXT,
                "reason": {"type": "string"},
                "date": _TEXT,
                "unit": {"enum": ["picture", "case"]},
                "n": _COUNT,
                "cases": _COUNT,
            },
        },
        "temperature": {
            "type": "object",
            "required": ["value", "chosen"],
            "properties": {
                "value": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                "chosen": _TEXT,
                "n": _COUNT,
                "cases": _COUNT,
            },
        },
        "precisions": {
            "type": "object",
            "propertyNames": {"enum": list(PRECISIONS)},
            "additionalProperties": {
                "type": "object",
                "required": ["prob_difference_p99", "auc_difference", "n", "allowed"],
                "properties": {
                    "prob_difference_p99": {"type": "number", "minimum": 0},
                    "auc_difference": {"type": ["number", "null"]},
                    "n": _COUNT,
                    "allowed": {"type": "boolean"},
                },
            },
        },
        "intended_use": _TEXT,
        "limits": _TEXT,
        "files": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            # A file name, never a path: a passport must not reach outside its folder.
            "propertyNames": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$"},
        },
    },
}  # fmt: skip


def drawn_in_words(data: dict[str, Any]) -> str:
    """Say what it means that a model learned from drawn pictures; its passport's ``data``."""
    if known := len(data.get("initial_cases", ())):
        return (
            "It learned from drawn pictures; of tissue it knows only what the model that it began "
            f"from had learned, from {many(known, 'case')}."
        )
    return "It learned from drawn pictures and knows nothing of tissue."


def check_passport(passport: Any, where: str) -> dict[str, Any]:
    """Check a passport against the schema.

    Returns
    -------
    dict
        The passport itself.

    Raises
    ------
    BundleError
        The message names the field and the rule.
    """
    version = passport.get("schema_version") if isinstance(passport, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise BundleError(
            f"The passport in {where} has schema version {version}; this program reads version "
            f"{SCHEMA_VERSION}. Export the model again with the program that wrote it."
        )
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(SCHEMA).iter_errors(passport)
    )
    if error is not None:
        field = "/".join(str(part) for part in error.absolute_path) or "the whole"
        raise BundleError(f"The passport in {where} is not valid ({field}: {error.message}).")
    if tuple(passport["classes"]) != CLASSES:
        raise BundleError(
            f"The model in {where} tells apart {', '.join(passport['classes'])}; this program "
            f"serves {', '.join(CLASSES)}, in this order."
        )
    return passport


def read_passport(folder: Path) -> dict[str, Any]:
    """Read and check the passport in a bundle folder.

    Raises
    ------
    BundleError
        None there, not JSON, or not valid.
    """
    path = folder / PASSPORT_FILE
    try:
        passport = json.loads(
            path.read_text(encoding="utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except FileNotFoundError as error:
        raise BundleError(
            f"{folder} is not a model: it has no {PASSPORT_FILE}. "
            "Give the folder of a finished run, or its folder 'model'."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"The passport in {folder} cannot be read as JSON.") from error
    return check_passport(passport, str(folder))


def _refuse_constant(word: str) -> NoReturn:
    # Python's reader takes NaN, with which every probability would lie below the cut-off.
    raise ValueError(f"{word} is not a JSON number")


def _finite_float(word: str) -> float:
    value = float(word)
    return value if math.isfinite(value) else _refuse_constant(word)


def passport_text(folder: Path, passport: dict[str, Any]) -> str:
    """Check a passport and return it as its file in a bundle folder holds it."""
    return json.dumps(check_passport(passport, str(folder)), indent=2, allow_nan=False) + "\n"


def write_passport(folder: Path, passport: dict[str, Any]) -> None:
    """Check a passport and write it into a bundle folder, whole or not at all."""
    write_text_atomic(folder / PASSPORT_FILE, passport_text(folder, passport))
