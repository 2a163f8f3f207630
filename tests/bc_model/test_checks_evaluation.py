"""Every message of evaluation, datasets and domain shift is rendered once."""

import json
import string
from typing import Any

import pytest

from bc_model.checks import MESSAGES, Severity, check_from_json, check_to_json, make_check

CI = [0.71, 0.93]
PAIR = {"leaky_protocol": "'by image'", "clean_protocol": "'by case'", "metric": "accuracy"}
FEATURES = {"proportion": 0.2, "separability": 0.61}
LEAK = {"n_shared": 3, "n_test": 60, "proportion": 0.05, "n_benign": 1, "n_benign_test": 20}

SAMPLES: dict[str, dict[str, Any]] = {
    "BC201": {},
    "BC202": {},
    "BC203": {"metrics": ["accuracy 0.990", "ROC AUC 0.998"], "limit": 0.97},
    "BC204": {"accuracy": 0.6, "majority_class": "malignant", "majority_accuracy": 0.69},
    "BC205": {"roc_auc": 0.31, "ci": [0.2, 0.44]},
    "BC206": {"missing_class": "benign"},
    "BC207": {"class_name": "benign", "n_cases": 1, "min_cases": 10},
    "BC208": {"n_unknown": 3, "n": 60},
    "BC209": {"case": "13412", "n_cases": 1},
    "BC210": {"n_duplicates": 2},
    "BC211": {},
    "BC212": {"n_folds": 5},
    "BC213": {},
    "BC214": {
        "roc_auc": 0.9, "roc_auc_ci": CI, "balanced_accuracy": 0.8, "balanced_accuracy_ci": None,
        "network": "small networks",
    },
    "BC221": {"run": "A"},
    "BC222": {"run": "A", "n_seen": 2, "n_cases": 9, "case": "13412"},
    "BC223": {"first": "A", "second": "B", "n_excluded_first": 1, "n_excluded_second": 0, "n": 9},
    "BC224": {"n_intervals": 12},
    "BC231": PAIR | {"n": 96, "n_cases": 24, "difference": 0.07, "ci": [0.01, 0.13]},
    "BC232": PAIR | {"n": 96, "n_cases": 24, "difference": -0.07, "ci": [-0.13, -0.01]},
    "BC233": PAIR | {"n": 96, "n_cases": 24, "difference": 0.01, "ci": [-0.02, 0.04]},
    "BC234": PAIR | {"n": 96, "n_cases": 24, "difference": 0.0, "reason": "no variation"},
    "BC235": PAIR | {"n": 96, "n_cases": 24, "reason": "one class only"},
    "BC236": PAIR | {"reason": "their test images differ", "leaky_value": "0.9 (0.8-1.0)",
                     "clean_value": "0.8 (0.7-0.9)"},
    "BC237": {},
    "BC241": {"n_done": 2, "n_failed": 1, "n_runs": 3},
    "BC242": {"n_done": 2, "n_runs": 3},
    "BC243": {"reason": "Two runs share test images."},
    "BC244": {},
    "BC245": {"reason": "The file names contain no case."},
    "BC246": {},
    "BC247": {"n_groups": 2},
    "BC248": {"n_groups": 2},
    "BC251": {"n_unknown": 3, "n": 60},
    "BC252": {"n": 9, "n_cases": 2, "height_px": 456, "frame_height_px": 460},
    "BC253": {"class_name": "benign", "sizes": ["50x50 (1 image, 1 case)", "3 more"]},
    "BC254": {"n_pairs": 1, "path": "a.png", "other_path": "b.png"},
    "BC255": {"n_pairs": 2, "path": "a.png", "other_path": "b.png"},
    "BC256": {"n_excluded": 2, "reasons": ["2 duplicate"], "path": "a.png", "detail": "same as b"},
    "BC257": {"class_name": "benign", "n": 624, "magnification": 40, "n_official": 625},
    "BC261": {"n_unlisted": 1, "n": 60},
    "BC262": {"n_missing": 1},
    "BC263": {"n_duplicates": 1},
    "BC264": {"n_excluded": 12},
    "BC265": {"n_cases": 1},
    "BC266": LEAK | {"n_cases": 1},
    "BC267": {"n_duplicates": 1},
    "BC268": {},
    "BC269": {},
    "BC270": {"n_test": 60},
    "BC271": LEAK | {"file": "dsfold1.txt"},
    "BC301": FEATURES,
    "BC302": FEATURES,
    "BC303": FEATURES,
    "BC304": {},
    "BC305": {"stain": "eosin", "distance_sd": -1.4},
    "BC306": {"n_out_of_distribution": 3, "n": 60, "proportion": 0.05, "features": ["pale (3)"]},
    "BC307": {"n": 60},
    "BC308": {"proportion": 0.021},
    "BC314": {"n_unsupported": 3, "n": 60, "magnification_names": ["40X"],
              "supported_names": ["100X", "200X"]},
    "BC315": {"supported_names": ["200X"], "mpp_ranges": ["0.5-0.6"]},
    "BC316": {},
    "BC317": {},
    "BC321": {"n_seen": 3, "n": 60},
    "BC322": {"n_seen": 3, "n": 60},
    "BC323": {"n_near_duplicates": 3},
    "BC324": {},
    "BC325": {"n_unseen": 3, "n": 60},
    "BC326": {},
    "BC331": {"n": 6},
    "BC332": {"n_unknown": 1},
    "BC333": {"n_benign_cases": 1, "n_malignant_cases": 4, "min_cases": 10},
    "BC334": {"labels": ["'0' as benign", "'1' as malignant"]},
}  # fmt: skip


def test_samples_cover_every_code_of_evaluation_and_domain_shift() -> None:
    assert list(SAMPLES) == sorted(code for code in MESSAGES if code[:3] in ("BC2", "BC3"))


@pytest.mark.parametrize("code", SAMPLES)
def test_message_renders_and_returns_from_json(code: str) -> None:
    check = make_check(code, **SAMPLES[code])
    assert check.severity != Severity.BLOCKING
    assert 1 <= len(check.title.split()) <= 6
    assert check.message[0].isupper() or check.message[0] in "'d"
    assert check.message[-1] in ".)"
    assert "{" not in check.message
    assert " --" not in check.message
    fields = {name for _, name, _, _ in string.Formatter().parse(MESSAGES[code].text) if name}
    assert fields <= SAMPLES[code].keys()
    assert check_from_json(json.loads(json.dumps(check_to_json(check), allow_nan=False))) == check


def test_message_without_interval_states_it() -> None:
    message = make_check("BC214", **SAMPLES["BC214"]).message
    assert "0.900 (95 % CI 0.710 to 0.930)" in message
    assert "0.800 (no 95 % CI)" in message


def test_check_from_json_unknown_code_raises_value_error() -> None:
    with pytest.raises(ValueError, match="BC999"):
        check_from_json({"code": "BC999", "severity": "info", "params": {}})
