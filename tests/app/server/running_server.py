"""A server of the app in a process of its own, without a browser."""

import base64
import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
STREAMLIT = Path(sys.executable).with_name("streamlit")

RECORDER = """
import os, sys

def record(event, args):
    if event in {"socket.connect", "socket.sendto"} or event.startswith("socket.get"):
        with open(os.environ["BC_TEST_RECORD"], "a") as file:
            file.write(f"{event} {args[-1] if 'get' not in event else args[0]}\\n")

sys.addaudithook(record)
"""
"""A `sitecustomize.py` that lists look-ups and connections."""


@dataclass
class Address:
    """A server, or a proxy before it.

    Attributes
    ----------
    port : int
        Port on the loopback.
    host : str
        Default of the Host header.
    tls : SSLContext, optional
        For HTTPS.
    """

    port: int
    host: str
    tls: ssl.SSLContext | None = None

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if self.tls:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=20, context=self.tls
            )
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Host": self.host} | headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            return response.status, {k.lower(): v for k, v in response.getheaders()}, text

    def shake_hands(self, host: str, origin: str | None, path: str = "/_stcore/stream") -> str:
        """Open a WebSocket, and return the answer."""
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            *([f"Origin: {origin}"] if origin else []), "", "",
        ]  # fmt: skip
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        with self.tls.wrap_socket(plain) if self.tls else plain as connection:
            connection.sendall("\r\n".join(lines).encode())
            return connection.recv(4096).decode(errors="replace")


def find_free_port() -> int:
    """Return a free port of the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def run_server(folder: Path, *options: str, base: str = "") -> Iterator[Address]:
    """Run the app with options of Streamlit; `folder/record.txt` lists its look-ups."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(RECORDER)
    port = find_free_port()
    address = Address(port, f"127.0.0.1:{port}")
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [STREAMLIT, "run", "app/main.py",
             f"--server.port={port}", *options],
            cwd=ROOT, stdout=log, stderr=log,
            env=os.environ | {
                "BC_RUNS": str(folder / "runs"), "BC_DATASETS": str(folder / "data"),
                "PYTHONPATH": str(folder), "BC_TEST_RECORD": str(folder / "record.txt"),
            },
        )  # fmt: skip
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "server.log").read_text()
            with contextlib.suppress(OSError):
                if address.request("GET", f"{base}/_stcore/health")[0] == 200:
                    break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)
