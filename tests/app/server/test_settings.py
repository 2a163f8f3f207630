"""Who can reach the server, and the consent that this needs."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.server import settings
from app.server.settings import check_start, is_checked, is_shared, list_hosts

LOCAL = {
    "browser.gatherUsageStats": False,
    "server.address": "127.0.0.1",
    "server.allowedHosts": ["localhost"],
    "server.corsAllowedOrigins": [],
}


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the options of a local server, which a test may change."""
    values = dict(LOCAL)
    monkeypatch.setattr(settings.st, "get_option", values.__getitem__)
    monkeypatch.setattr(settings.config, "set_option", values.__setitem__)
    monkeypatch.setattr(settings, "_is_checked", False)
    monkeypatch.delenv("BC_ALLOW_REMOTE", raising=False)
    return values


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_local_server_starts_and_is_not_shared(options: dict[str, Any], address: str) -> None:
    options["server.address"] = address
    check_start()
    assert is_checked()
    assert not is_shared()
    assert options["server.allowedHosts"] == ["localhost", "127.0.0.1", "::1"]


@pytest.mark.parametrize(
    "address", [None, "", "0.0.0.0", "::", "192.168.1.5", "myhost", "unix:///run/app"]
)
def test_open_server_needs_consent(
    options: dict[str, Any],
    address: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options["server.address"] = address
    with pytest.raises(SystemExit, match=r"no user accounts.* BC_ALLOW_REMOTE=1"):
        check_start()
    assert not is_checked()
    assert is_shared()
    monkeypatch.setenv("BC_ALLOW_REMOTE", "1")
    check_start()
    assert "everyone who reaches the server can see and delete" in caplog.text


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("server.allowedHosts", ["histology.example.org"]),
        ("server.allowedHosts", ["*"]),
        ("server.corsAllowedOrigins", ["https://histology.example.org"]),
    ],
)
def test_server_behind_a_proxy_is_shared(
    options: dict[str, Any], option: str, value: list[str]
) -> None:
    options[option] = value
    check_start()
    assert is_shared()


def test_list_hosts_normalizes_the_names(options: dict[str, Any]) -> None:
    options["server.allowedHosts"] = [" App.Example.ORG. ", "", "*.", "localhost"]
    assert list_hosts() == ["localhost", "127.0.0.1", "::1", "app.example.org"]


def test_server_without_its_configuration_does_not_start(options: dict[str, Any]) -> None:
    options["browser.gatherUsageStats"] = True
    with pytest.raises(SystemExit, match=r"config\.toml was not found"):
        check_start()


def test_pages_without_the_checks_of_the_server_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`streamlit run app/router.py` would start them for every host, without headers."""
    monkeypatch.setattr(settings, "_is_checked", False)
    app = AppTest.from_file(str(Path(settings.__file__).parents[1] / "router.py")).run()
    assert "streamlit run app/main.py" in app.error[0].value
    assert not app.title
