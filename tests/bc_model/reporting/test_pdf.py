"""Documents as PDF: complete, self-contained and deterministic."""

import re
from dataclasses import replace

from bc_model.reporting.document import Notice
from bc_model.reporting.evaluation_report import report_document
from bc_model.reporting.pdf import to_pdf
from tests.bc_model.reporting.examples import hostile_document, model_card, report


def test_to_pdf_same_report_gives_same_bytes() -> None:
    first, second = (report_document(report(), model_card()) for _ in range(2))
    assert to_pdf(first) == to_pdf(second)


def test_to_pdf_is_complete_and_self_contained() -> None:
    data = to_pdf(report_document(report(), model_card()))
    assert data.startswith(b"%PDF-1.")
    assert data.rstrip().endswith(b"%%EOF")
    pages = len(re.findall(rb"/Type /Page\b", data))
    assert 3 <= pages <= 9
    assert b"/Lang (en)" in data
    assert b"http" not in data.replace(b"http://www.w3.org", b"").replace(
        b"http://ns.adobe.com", b""
    )
    # Both fonts are embedded.
    assert data.count(b"/FontFile2") == 2


def test_to_pdf_accepts_any_text() -> None:
    assert to_pdf(hostile_document()).startswith(b"%PDF-1.")
    long = replace(hostile_document(), blocks=(Notice("a", tuple(["word " * 60] * 40)),))
    assert len(re.findall(rb"/Type /Page\b", to_pdf(long))) >= 2
