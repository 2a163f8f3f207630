"""The script that reloads open tabs after a restart of the server."""

import base64
import hashlib

import pytest

from app.server import restart
from app.server.access import _make_policy
from app.server.restart import INSTANCE, make_reload_script


@pytest.mark.parametrize(
    ("base", "url"), [("", '"/_stcore/health"'), ("bc/", '"/bc/_stcore/health"')]
)
def test_reload_script_asks_this_server(
    base: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart.st, "get_option", lambda name: base)
    script = make_reload_script()
    assert url in script
    assert f'"{INSTANCE}"' in script


def test_policy_allows_the_reload_script() -> None:
    digest = hashlib.sha256(make_reload_script().encode()).digest()
    assert f"'sha256-{base64.b64encode(digest).decode()}'" in _make_policy()
