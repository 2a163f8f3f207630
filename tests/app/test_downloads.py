"""Every download button keeps the page as it is while its file is created."""

import ast
from pathlib import Path

import pytest

from tests.app.test_wording import APP, list_calls

BUTTONS = [
    pytest.param(source, call, id=f"{source.relative_to(APP).as_posix()}:{call.lineno}")
    for source in sorted(APP.rglob("*.py"))
    for name, call in list_calls(source)
    if name == "download_button"
]


def test_app_has_download_buttons():
    assert len(BUTTONS) >= 5


@pytest.mark.parametrize(("source", "call"), BUTTONS)
def test_download_button_does_not_rerun_the_page(source: Path, call: ast.Call):
    # The file of a callable arrives in a message that a rerun of the page can clear: the button
    # would then spin forever.
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "on_click"]

    assert [getattr(mode, "value", None) for mode in modes] == ["ignore"]
