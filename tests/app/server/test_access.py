"""Host names and origins that the server accepts."""

import pytest

from app.server import access
from app.server.access import _is_same_host, is_known_host


@pytest.fixture(autouse=True)
def _options(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "server.allowedHosts": ["app.example.org", "*.lab.example.org"],
        "server.corsAllowedOrigins": ["https://Public.Example.org/"],
    }
    monkeypatch.setattr(access.st, "get_option", options.__getitem__)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "[::1]:80", "app.example.org.", "a.lab.example.org"]
)
def test_known_host_is_accepted(host: str) -> None:
    assert is_known_host(host)


@pytest.mark.parametrize(
    "host",
    ["", "localhost/evil", "localhost?x", "localhost#x", "localhost;x", "user@localhost", "[::1",
     "localhost:x", "localhost\n", ".", "lab.example.org", "evil.example"],
)  # fmt: skip
def test_other_host_is_refused(host: str) -> None:
    assert not is_known_host(host)


def test_origin_is_that_of_the_host_or_allowed() -> None:
    assert _is_same_host("https://LOCALHOST:1/data", "localhost:1")
    assert _is_same_host("https://public.example.org", "localhost")
    for origin in ("http://public.example.org", "https://localhost:2", "null", "http://[x"):
        assert not _is_same_host(origin, "localhost:1")
