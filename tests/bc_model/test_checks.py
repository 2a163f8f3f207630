"""The message table: every code renders, and every text follows the writing rules."""

import json
import re
import string
from typing import Any

import pytest

from bc_model.checks import (
    MESSAGES,
    TERMS,
    Severity,
    by_severity,
    check_from_json,
    check_to_json,
    is_blocked,
    make_check,
)

SIZES = ["700 x 460", "700 x 456"]
CI = [0.71, 0.93]
PAIR = {
    "leakage_protocol": "'by image'", "leakage_free_protocol": "'by case'", "metric": "accuracy",
}  # fmt: skip
FEATURES = {"proportion": 0.2, "separability": 0.61}
LEAKAGE = {"n_shared": 3, "n_test": 60, "proportion": 0.05, "n_benign": 1, "n_benign_test": 20}
SAMPLES: dict[str, dict[str, Any]] = {
    "BC101": {"magnification": 40, "supported_names": ["100X", "200X"]},
    "BC102": {},
    "BC103": {},
    "BC104": {},
    "BC105": {"width_px": 50, "height_px": 40, "factor": 4.8, "training_sizes": SIZES},
    "BC106": {},
    "BC110": {"case": "12345"},
    "BC111": {},
    "BC112": {},
    "BC120": {"differences": ["eosin_paler", "residual_more_even"]},
    "BC130": {"width_px": 512, "height_px": 512, "training_sizes": SIZES},
    "BC131": {"width_px": 224, "height_px": 224},
    "BC140": {"supported_names": ["100X", "200X"], "objectives": ["10x", "20x"]},
    "BC145": {"n_found": 2, "n_tiles": 12, "reasons": ["Too little tissue", "Pen marks"]},
    "BC146": {"names": ["views", "trust test"]},
    "BC147": {"names": ["views", "trust test"]},
    "BC150": {
        "n_found": 3, "n_images": 8, "min_factor": 2.4, "max_factor": 4.8, "training_sizes": SIZES,
    },
    "BC151": {"n_found": 1, "n_images": 8},
    "BC152": {"n_found": 2000, "n_images": 8000, "training_sizes": SIZES},
    "BC153": {"n_found": 1, "n_images": 60},
    "BC160": {"mpp": 2.5, "max_mpp": 1.65, "supported_names": ["100X", "200X"]},
    "BC161": {"width_um": 175.0, "height_um": 115.0, "min_width_um": 304.0, "min_height_um": 198.0},
    "BC162": {"factor": 3.9, "direction": "finer", "limit": 1.8},
    "BC163": {"n_tiles": 12, "magnification": 200},
    "BC164": {"n_tiles": 1200, "max_tiles": 400},
    "BC165": {"bits": 16},
    "BC166": {},
    "BC167": {"page": 1, "n_pages": 3},
    "BC168": {"width_px": 9000, "height_px": 8000, "max_megapixels": 40},
    "BC169": {"declared": "0.25 µm/px", "stated": "0.5 µm/px", "source": "file name"},
    "BC170": {"focus": 1.9, "limit": 3.7},
    "BC171": {"percent": 0.4, "limit": 5.0},
    "BC172": {"percent": 22.0},
    "BC173": {"percent": 3.1},
    "BC174": {"percent": 40.0},
    "BC175": {"brightness": 18.0},
    "BC176": {"distance": 2.6, "flat_percent": 90.0},
    "BC177": {"distance": 3.5},
    "BC178": {"reasons": ["out of focus"]},
    "BC179": {"n_found": 18, "n_tiles": 25, "reasons": ["Out of focus"]},
    "BC182": {"region": ["upper_left"], "background_percent": 12.2},
    "BC183": {"region": ["spread"], "background_percent": 31.0, "max_percent": 25},
    "BC190": {"n_cases": 1, "class_name": "benign", "alpha": 0.05, "min_cases": 19},
    "BC191": {"low": 0.145, "high": 0.855},
    "BC192": {"minimum": 0.2, "maximum": 0.7, "sd": 0.14, "n_malignant": 3, "n_views": 12},
    "BC193": {"target_risk": 0.05},
    "BC194": {"n_beaten": 29, "n_random": 30},
    "BC195": {"n_beaten": 14, "n_random": 30},
    "BC196": {},
    "BC197": {},
    "BC198": {},
    "BC201": {},
    "BC202": {},
    "BC203": {"metrics": ["accuracy 0.990", "ROC AUC 0.998"], "limit": 0.97},
    "BC204": {"accuracy": 0.6, "majority_class": "malignant", "majority_accuracy": 0.69},
    "BC205": {"roc_auc": 0.31, "ci": [0.2, 0.44]},
    "BC206": {"missing_class": "benign"},
    "BC207": {"class_name": "benign", "n_cases": 1, "min_cases": 10},
    "BC208": {"n_unknown": 3, "n_images": 60},
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
    "BC223": {"first": "A", "second": "B", "n_excluded_first": 1, "n_excluded_second": 0,
              "n_images": 9},
    "BC224": {"n_intervals": 12},
    "BC231": PAIR | {"n_images": 96, "n_cases": 24, "difference": 0.07, "ci": [0.01, 0.13]},
    "BC232": PAIR | {"n_images": 96, "n_cases": 24, "difference": -0.07, "ci": [-0.13, -0.01]},
    "BC233": PAIR | {"n_images": 96, "n_cases": 24, "difference": 0.01, "ci": [-0.02, 0.04]},
    "BC234": PAIR | {"n_images": 96, "n_cases": 24, "difference": 0.0, "reason": "no variation"},
    "BC235": PAIR | {"n_images": 96, "n_cases": 24, "reason": "one class only"},
    "BC236": PAIR | {"reason": "their test images differ", "leakage_value": "0.9 (0.8-1.0)",
                     "leakage_free_value": "0.8 (0.7-0.9)"},
    "BC237": {},
    "BC241": {"n_done": 2, "n_failed": 1, "n_runs": 3},
    "BC242": {"n_done": 2, "n_runs": 3},
    "BC243": {"reason": "Two runs share test images."},
    "BC244": {},
    "BC245": {"reason": "The file names contain no case."},
    "BC246": {},
    "BC247": {"n_groups": 2},
    "BC248": {"n_groups": 2},
    "BC251": {"n_unknown": 3, "n_images": 60},
    "BC252": {"n_images": 9, "n_cases": 2, "height_px": 456, "frame_height_px": 460},
    "BC253": {"class_name": "benign", "sizes": ["50x50 (1 image, 1 case)", "3 more"]},
    "BC254": {"n_pairs": 1, "path": "a.png", "other_path": "b.png"},
    "BC255": {"n_pairs": 2, "path": "a.png", "other_path": "b.png"},
    "BC256": {"n_excluded": 2, "reasons": ["2 duplicate"], "path": "a.png", "detail": "same as b"},
    "BC257": {"class_name": "benign", "n_images": 624, "magnification": 40, "n_official": 625},
    "BC261": {"n_unlisted": 1, "n_images": 60},
    "BC262": {"n_missing": 1},
    "BC263": {"n_duplicates": 1},
    "BC264": {"n_excluded": 12},
    "BC265": {"n_cases": 1},
    "BC266": LEAKAGE | {"n_cases": 1},
    "BC267": {"n_duplicates": 1},
    "BC268": {},
    "BC269": {},
    "BC270": {"n_test": 60},
    "BC271": LEAKAGE | {"file": "dsfold1.txt"},
    "BC301": FEATURES,
    "BC302": FEATURES,
    "BC303": FEATURES,
    "BC304": {},
    "BC305": {"stain": "eosin", "distance_sd": -1.4},
    "BC306": {"n_out_of_distribution": 3, "n_images": 60, "proportion": 0.05,
              "features": ["pale (3)"]},
    "BC307": {"n_images": 60},
    "BC308": {"proportion": 0.021},
    "BC314": {"n_unsupported": 3, "n_images": 60, "magnification_names": ["40X"],
              "supported_names": ["100X", "200X"]},
    "BC315": {"supported_names": ["200X"], "mpp_ranges": ["0.5-0.6"]},
    "BC316": {},
    "BC317": {},
    "BC321": {"n_seen": 3, "n_images": 60},
    "BC322": {"n_seen": 3, "n_images": 60},
    "BC323": {"n_near_duplicates": 3},
    "BC324": {},
    "BC325": {"n_unseen": 3, "n_images": 60},
    "BC326": {},
    "BC331": {"n_images": 6},
    "BC332": {"n_unknown": 1},
    "BC333": {"n_benign_cases": 1, "n_malignant_cases": 4, "min_cases": 10},
    "BC334": {"labels": ["'0' as benign", "'1' as malignant"]},
    "BC335": {"n_found": 3, "n_images": 60, "reasons": ["Out of focus (2)", "Dark image (1)"]},
    "BC401": {},
    "BC410": {"n_seen": 5, "n_test": 20},
    "BC411": {"n_seen": 1, "n_test": 1},
}  # fmt: skip
"""Parameters of one check of each code, as the library makes it."""

STRUCK = (
    r"pictures?|drawn|drawing|twins?|shel(f|ves)|manifest|misnamed|misfiled|passports?|verdicts?"
    r"|cut-?offs?|called|figures?|leaky|flatters?|hold-?outs?|told|says?|said|knows?|knew"
    r"|whoever|nobody|somebody|heed|anew|whole|enlarged|greyscale|grey|colou?rless|colour"
    r"|haematoxylin|the box|strange|recipes?|means nothing|held against|comes to|goes on"
)


def test_samples_and_messages_have_the_same_codes() -> None:
    assert list(SAMPLES) == list(MESSAGES) == sorted(MESSAGES)


@pytest.mark.parametrize("code", MESSAGES)
def test_message_with_sample_params_is_one_or_two_plain_sentences(code: str) -> None:
    check = make_check(code, **SAMPLES[code])
    text = check.message

    assert re.fullmatch(r"[A-Z\d'].*[.)]", text)
    assert not re.search(r"[{}]| --", text)
    assert 1 <= len(re.findall(r"[.)](?= [A-Z\d]|$)", text)) <= 2
    assert not re.search(rf"\b({STRUCK})\b", f"{check.title} {text}", re.IGNORECASE)
    assert 1 <= len(check.title.split()) <= 4


@pytest.mark.parametrize("code", MESSAGES)
def test_message_fields_are_sample_params(code: str) -> None:
    fields = {name for _, name, _, _ in string.Formatter().parse(MESSAGES[code].text) if name}
    assert fields <= SAMPLES[code].keys()


@pytest.mark.parametrize("code", MESSAGES)
def test_check_to_json_then_from_json_returns_the_check(code: str) -> None:
    check = make_check(code, **SAMPLES[code])
    assert check_from_json(json.loads(json.dumps(check_to_json(check), allow_nan=False))) == check


@pytest.mark.parametrize("code", MESSAGES)
def test_severity_is_blocking_for_input_checks_only(code: str) -> None:
    assert MESSAGES[code].severity != Severity.BLOCKING or code.startswith("BC1")


def test_list_format_with_codes_inserts_their_terms() -> None:
    text = make_check("BC120", differences=["eosin_paler", "residual_more_even"]).message
    assert "paler eosin and more even other colors" in text
    assert not [term for term in TERMS.values() if "_" in term]


def test_count_format_with_one_item_is_singular() -> None:
    assert "1 of 1 test image." in make_check("BC411", n_seen=1, n_test=1).message


def test_ci_format_with_none_states_that_there_is_no_interval() -> None:
    message = make_check("BC214", **SAMPLES["BC214"]).message
    assert "0.900 (95 % CI 0.710 to 0.930)" in message
    assert "0.800 (no 95 % CI)" in message


def test_by_severity_orders_groups_and_omits_empty_ones() -> None:
    info, warning = make_check("BC401"), make_check("BC111")
    assert by_severity([info, warning]) == {Severity.WARNING: [warning], Severity.INFO: [info]}
    assert not is_blocked([info, warning])
    assert is_blocked([info, make_check("BC103")])


def test_check_from_json_unknown_code_raises_value_error() -> None:
    with pytest.raises(ValueError, match="BC999"):
        check_from_json({"code": "BC999", "severity": "info", "params": {}})
