"""A running server: refused hosts and origins, hidden routes, headers, and no look-ups."""

import base64
import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

RECORDER = """
import os, sys

def record(event, args):
    if event in {"socket.connect", "socket.sendto"} or event.startswith("socket.get"):
        with open(os.environ["BC_TEST_RECORD"], "a") as file:
            file.write(f"{event} {args[-1] if 'get' not in event else args[0]}\\n")

sys.addaudithook(record)
"""


@dataclass
class Server:
    """A running server, and the file that lists its look-ups and connections."""

    port: int
    record: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def request(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        body = b"x" if method == "PUT" else None
        connection.request(method, path, body, {"Host": self.host} | headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, text

    def shake_hands(self, host: str, origin: str | None) -> str:
        """Open a WebSocket, and return the answer."""
        lines = [
            "GET /_stcore/stream HTTP/1.1", f"Host: {host}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            *([f"Origin: {origin}"] if origin else []), "", "",
        ]  # fmt: skip
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall("\r\n".join(lines).encode())
            return connection.recv(4096).decode(errors="replace")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the app with a recorder of look-ups and connections."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "sitecustomize.py").write_text(RECORDER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("streamlit"), "run", "app/main.py",
             f"--server.port={port}", "--server.allowedHosts=*.example.org"],
            cwd=ROOT, stdout=log, stderr=log,
            env=os.environ | {
                "BC_RUNS": str(folder / "runs"), "BC_DATASETS": str(folder / "data"),
                "PYTHONPATH": str(folder), "BC_TEST_RECORD": str(folder / "record.txt"),
            },
        )  # fmt: skip
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "server.log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2)
                break
            except OSError:
                time.sleep(0.1)
        yield Server(port, folder / "record.txt")
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize(
    "path",
    ["/", "/data", "/_stcore/health", "/_stcore/host-config", "/media/a.png", "/static/js/a.js"],
)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_unknown_host_is_refused(server: Server, path: str, host: str) -> None:
    status, headers, text = server.request("GET", path, Host=host)
    assert status == 400
    assert "server.allowedHosts" in text
    assert "set-cookie" not in headers


def test_upload_to_unknown_host_is_refused(server: Server) -> None:
    status, _, text = server.request("PUT", "/_stcore/upload_file/a/b", Host="evil.example")
    assert (status, "Unknown host name" in text) == (400, True)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:8501", "app.example.org"])
def test_known_host_is_answered(server: Server, host: str) -> None:
    assert server.request("GET", "/_stcore/health", Host=host)[0] == 200


def test_websocket_of_this_server_is_accepted(server: Server) -> None:
    for origin in (f"http://{server.host}", f"https://{server.host}", None):
        assert server.shake_hands(server.host, origin).startswith("HTTP/1.1 101")
    answer = server.shake_hands("app.example.org", "https://app.example.org")
    assert answer.startswith("HTTP/1.1 101")


def test_foreign_origin_is_refused_at_once_without_any_look_up(server: Server) -> None:
    """Streamlit alone would ask a third party for the public address of the machine."""
    begin = time.monotonic()
    for origin in ("http://evil.example", "http://127.0.0.1:1", "https://app.example.org", "null"):
        answer = server.shake_hands(server.host, origin)
        assert answer.startswith("HTTP/1.1 403")
        assert "docs/deployment.md" in answer
    assert server.shake_hands("evil.example", "http://evil.example").startswith("HTTP/1.1 400")
    assert time.monotonic() - begin < 2
    assert not server.record.exists(), server.record.read_text()


@pytest.mark.parametrize(
    "path", ["/_stcore/metrics", "/_stcore/metrics?families=session_events", "/_stcore/agent/tree"]
)
def test_unused_routes_are_hidden(server: Server, path: str) -> None:
    assert server.request("GET", path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/data", "/_stcore/health", "/_stcore/metrics"])
def test_answers_have_security_headers(server: Server, path: str) -> None:
    headers = server.request("GET", path)[1]
    policy = headers["content-security-policy"]
    assert "default-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_page_of_a_proxy_that_changes_the_host_shows_the_reason(server: Server) -> None:
    """Its WebSocket will be refused; its scripts are the only part that can show a message."""
    referer = "https://histology.example.net/data"
    status, headers, text = server.request("GET", "/static/js/index.js", Referer=referer)
    assert status == 200
    assert headers["content-type"].startswith("text/javascript")
    assert text.startswith("document.body.textContent = ")
    assert "must keep the Host header" in text
    own = server.request("GET", "/", Referer=f"http://{server.host}/data")
    assert own[0] == 200
