"""The message table: every code renders, and every text follows the writing rules."""

import re
from typing import Any

import pytest

from bc_model.checks import MESSAGES, TERMS, Severity, by_severity, is_blocked, make_check
from tests.bc_model.test_checks_evaluation import SAMPLES as EVALUATION_SAMPLES

SIZES = ["700 x 460", "700 x 456"]
SAMPLES: dict[str, dict[str, Any]] = {
    "BC101": {"magnification": 40, "supported_names": ["100X", "200X"]},
    "BC102": {},
    "BC103": {},
    "BC104": {},
    "BC105": {"width_px": 50, "height_px": 40, "factor": 4.8, "training_sizes": SIZES},
    "BC110": {"case": "12345"},
    "BC111": {},
    "BC112": {},
    "BC120": {"differences": ["eosin_paler", "residual_more_even"]},
    "BC130": {"width_px": 512, "height_px": 512, "training_sizes": SIZES},
    "BC131": {"width_px": 224, "height_px": 224},
    "BC140": {"supported_names": ["100X", "200X"], "objectives": ["10x", "20x"]},
    "BC150": {
        "n_found": 3, "n_images": 8, "min_factor": 2.4, "max_factor": 4.8, "training_sizes": SIZES,
    },
    "BC151": {"n_found": 1, "n_images": 8},
    "BC152": {"n_found": 2000, "n_images": 8000, "training_sizes": SIZES},
    "BC401": {},
    "BC410": {"n_seen": 5, "n_test": 20},
    "BC411": {"n_seen": 1, "n_test": 1},
}  # fmt: skip
"""Parameters of one check of each input and model code, as the library makes it."""

ALL_SAMPLES = SAMPLES | EVALUATION_SAMPLES

STRUCK = (
    r"pictures?|drawn|drawing|twins?|shel(f|ves)|manifest|misnamed|misfiled|passports?|verdicts?"
    r"|cut-?offs?|called|figures?|leaky|flatters?|hold-?outs?|told|says?|said|knows?|knew"
    r"|whoever|nobody|somebody|heed|anew|whole|enlarged|greyscale|grey|colou?rless|colour"
    r"|haematoxylin|the box|strange|recipes?|means nothing|held against|comes to|goes on"
)


@pytest.mark.parametrize("code", MESSAGES)
def test_message_with_sample_params_is_one_or_two_plain_sentences(code: str) -> None:
    check = make_check(code, **ALL_SAMPLES[code])
    text = check.message

    assert re.fullmatch(r"\S.*[.)]", text)
    assert not re.search(r"[{}]", text)
    assert 1 <= len(re.findall(r"[.)](?= [A-Z\d]|$)", text)) <= 2
    assert not re.search(rf"\b({STRUCK})\b", f"{check.title} {text}", re.IGNORECASE)
    assert 1 <= len(check.title.split()) <= 4


def test_samples_and_messages_have_the_same_codes() -> None:
    assert ALL_SAMPLES.keys() == MESSAGES.keys()


def test_list_format_with_codes_inserts_their_terms() -> None:
    text = make_check("BC120", differences=["eosin_paler", "residual_more_even"]).message
    assert "paler eosin and more even other colors" in text
    assert not [term for term in TERMS.values() if "_" in term]


def test_count_format_with_one_item_is_singular() -> None:
    assert "1 of 1 test image." in make_check("BC411", n_seen=1, n_test=1).message


def test_by_severity_orders_groups_and_omits_empty_ones() -> None:
    info, warning = make_check("BC401"), make_check("BC111")
    assert by_severity([info, warning]) == {Severity.WARNING: [warning], Severity.INFO: [info]}
    assert not is_blocked([info, warning])
    assert is_blocked([info, make_check("BC103")])
