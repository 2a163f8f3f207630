"""A running server: refused hosts and origins, hidden routes, headers, and no look-ups."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.server.running_server import RECORDER, ROOT, STREAMLIT, Address, run_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the server."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Address]:
    """Start the app, with names of subdomains and a recorder of look-ups."""
    with run_server(folder, "--server.allowedHosts=*.example.org") as address:
        yield address


@pytest.mark.parametrize(
    "path",
    ["/", "/data", "/_stcore/health", "/_stcore/host-config", "/media/a.png", "/static/js/a.js"],
)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_unknown_host_is_refused(server: Address, path: str, host: str) -> None:
    status, headers, text = server.request("GET", path, Host=host)
    assert status == 400
    assert "server.allowedHosts" in text
    assert "set-cookie" not in headers


def test_upload_to_unknown_host_is_refused(server: Address) -> None:
    status, _, text = server.request("PUT", "/_stcore/upload_file/a/b", b"x", Host="evil.example")
    assert (status, "Unknown host name" in text) == (400, True)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:8501", "app.example.org"])
def test_known_host_is_answered(server: Address, host: str) -> None:
    assert server.request("GET", "/_stcore/health", Host=host)[0] == 200


def test_websocket_of_this_server_is_accepted(server: Address) -> None:
    for origin in (f"http://{server.host}", f"https://{server.host}", None):
        assert server.shake_hands(server.host, origin).startswith("HTTP/1.1 101")
    answer = server.shake_hands("app.example.org", "https://app.example.org")
    assert answer.startswith("HTTP/1.1 101")


def test_foreign_origin_is_refused_at_once_without_any_look_up(
    server: Address, folder: Path
) -> None:
    """Streamlit alone would ask a third party for the public address of the machine."""
    begin = time.monotonic()
    for origin in ("http://evil.example", "http://127.0.0.1:1", "https://app.example.org", "null"):
        answer = server.shake_hands(server.host, origin)
        assert answer.startswith("HTTP/1.1 403")
        assert "docs/deployment.md" in answer
    assert server.shake_hands("evil.example", "http://evil.example").startswith("HTTP/1.1 400")
    assert time.monotonic() - begin < 2
    record = folder / "record.txt"
    assert not record.exists(), record.read_text()


@pytest.mark.parametrize(
    "path", ["/_stcore/metrics", "/_stcore/metrics?families=session_events", "/_stcore/agent/tree"]
)
def test_unused_routes_are_hidden(server: Address, path: str) -> None:
    assert server.request("GET", path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/data", "/_stcore/health", "/_stcore/metrics"])
def test_answers_have_security_headers(server: Address, path: str) -> None:
    headers = server.request("GET", path)[1]
    policy = headers["content-security-policy"]
    assert "default-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert policy.endswith(f"connect-src 'self' ws://{server.host} wss://{server.host}")
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "source",
    [
        {"Referer": "https://histology.example.net/data"},
        {"Origin": "https://histology.example.net"},  # Chromium sends it for modules.
    ],
)
def test_page_of_a_proxy_that_changes_the_host_shows_the_reason(
    server: Address, source: dict[str, str]
) -> None:
    """Its WebSocket will be refused; its scripts are the only part that can show a message."""
    status, headers, text = server.request("GET", "/static/js/index.js", **source)
    assert status == 200
    assert headers["content-type"].startswith("text/javascript")
    assert text.startswith("document.body.textContent = ")
    assert "must keep the Host header" in text


def test_scripts_of_the_own_page_are_answered(server: Address) -> None:
    index = server.request("GET", "/")[2]
    script = re.search(r'src="\.(/static/js/[^"]+)"', index)
    assert script
    own = f"http://{server.host}"
    text = server.request("GET", script[1], Origin=own, Referer=f"{own}/data")[2]
    assert len(text) > 10_000


def test_start_without_the_configuration_ends_without_any_look_up(tmp_path: Path) -> None:
    """Started in another folder, Streamlit alone would look up the public address."""
    (tmp_path / "sitecustomize.py").write_text(RECORDER)
    done = subprocess.run(
        [STREAMLIT, "run", ROOT / "app/main.py", "--server.port=0"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env=os.environ | {
            "PYTHONPATH": str(tmp_path), "BC_TEST_RECORD": str(tmp_path / "record.txt"),
        },
    )  # fmt: skip
    assert done.returncode == 1
    assert ".streamlit/config.toml was not found" in done.stderr
    assert not (tmp_path / "record.txt").exists()
