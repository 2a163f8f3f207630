"""Documents as PDF: complete, self-contained and deterministic."""

import re
from dataclasses import replace

from bc_model.reporting.document import Notice
from bc_model.reporting.evaluation_report import report_document
from bc_model.reporting.pdf import to_pdf
from tests.bc_model.reporting.examples import hostile, model_card, report


def test_to_pdf_same_report_gives_same_bytes() -> None:
    one, two = (report_document(report(), model_card()) for _ in range(2))
    assert to_pdf(one) == to_pdf(two)


def test_a_pdf_is_whole_and_says_what_it_is() -> None:
    data = to_pdf(report_document(report(), model_card()))
    assert data.startswith(b"%PDF-1.")
    assert data.rstrip().endswith(b"%%EOF")
    pages = len(re.findall(rb"/Type /Page\b", data))
    assert 3 <= pages <= 9
    assert b"/Lang (en)" in data
    assert b"http" not in data.replace(b"http://www.w3.org", b"").replace(
        b"http://ns.adobe.com", b""
    )
    # Fonts are inside; nothing is left to the reader's machine.
    assert data.count(b"/FontFile2") == 2


def test_a_pdf_takes_any_text() -> None:
    assert to_pdf(hostile()).startswith(b"%PDF-1.")
    long = replace(hostile(), blocks=(Notice("a", tuple(["word " * 60] * 40)),))
    assert len(re.findall(rb"/Type /Page\b", to_pdf(long))) >= 2
