"""Work in a network namespace without a route: ``python -m tests.robustness.isolated WORK FOLDER``.

`run_isolated` starts this module in a new namespace, in which only the loopback interface exists.
A resolver on 127.0.0.1 records all queries, and the kernel counts all attempts to reach an address
outside, of all processes and from native code as well.
"""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bc_model.data import example_png, generate_dataset
from benchmarks.load import make_accepted_image
from benchmarks.streamlit_client import Session, running_server

NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--mount")
TIMEOUT_S = 300
FOREIGN_ORIGIN_TIMEOUT_S = 3.0

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1


@dataclass(frozen=True)
class Traffic:
    """The attempts to leave the machine: names to resolve, and packets without a route."""

    queries: tuple[str, ...]
    n_packets: int


def run_isolated(work: str, folder: Path) -> Traffic:
    """Do the work of this name in a namespace; skip the test where namespaces are not permitted."""
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace: {error}")
    command = [*NAMESPACE, sys.executable, "-m", "tests.robustness.isolated", work, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(done.stdout.splitlines()[-1])
    return Traffic(tuple(record["queries"]), record["n_packets"])


def leave(folder: Path) -> None:
    """Try to leave the machine, to show that this is recorded."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo("www.example.org", 80)
    with contextlib.suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), timeout=5)


def use_app(folder: Path) -> None:
    """Classify an image, open all pages, and connect from a foreign page."""
    generate_dataset(
        folder / "datasets" / "synthetic", n_cases=10, images_per_case=1, size=(48, 64)
    )
    with running_server(folder) as server:
        with Session(server.url) as session:
            session.upload("Images", [("image_20x.png", make_accepted_image())])
            assert "Uncertain" in session.texts("metric")
            for page in ("data", "train", "evaluate", "experiments", "compare"):
                session.open_page(page)
                assert session.texts("heading")[0] == page.capitalize()
        start_s = time.monotonic()
        answer = _connect_from_foreign_page(urlsplit(server.url).port)
        assert b" 403 " in answer, answer
        assert time.monotonic() - start_s < FOREIGN_ORIGIN_TIMEOUT_S


def use_command_line(folder: Path) -> None:
    """Explain an image, and train a model."""
    generate_dataset(folder / "data", n_cases=10, images_per_case=1, size=(48, 64))
    (folder / "image.png").write_bytes(example_png(malignant=True))
    explain = ("explain", folder / "image.png", "--model", "bundled", "--out", folder / "out")
    train = (
        "train", folder / "data", "--run", folder / "run", "--weights", "none",
        "--backbone", "tiny", "--image-size", "32x32", "--head-epochs", "1",
        "--finetune-epochs", "1",
    )  # fmt: skip
    for arguments in (explain, train):
        command = [sys.executable, "-m", "bc_model", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def _connect_from_foreign_page(port: int | None) -> bytes:
    """Return the first line of the answer to a WebSocket handshake of another page."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(
            f"GET /_stcore/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\nOrigin: http://elsewhere.example\r\n\r\n".encode()
        )
        return sock.recv(200).partition(b"\r\n")[0]


def _start_loopback() -> None:
    import fcntl  # Linux, like the namespaces.

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(sock, _GET_FLAGS, request))[1]
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sH14s", b"lo", flags | _UP, b""))


@contextlib.contextmanager
def _recording_resolver(folder: Path) -> Iterator[list[str]]:
    """Answer that no name exists, and yield the list of the queried names."""
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", folder / "resolv.conf", "/etc/resolv.conf"], check=True)
    queries: list[str] = []
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 53))

    def answer() -> None:
        while True:
            query, address = sock.recvfrom(4096)
            queries.append(_read_name(query))
            # The question with the flags of an answer, and the code for a name that is missing.
            sock.sendto(query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:], address)

    threading.Thread(target=answer, daemon=True).start()
    yield queries


def _read_name(query: bytes) -> str:
    labels, position = [], 12
    while length := query[position]:
        labels.append(query[position + 1 : position + 1 + length].decode())
        position += 1 + length
    return ".".join(labels)


def _count_packets() -> int:
    """Return the number of packets to addresses without a route, in IPv4 and IPv6."""
    names, values = (
        line.split()
        for line in Path("/proc/net/snmp").read_text().splitlines()
        if line.startswith("Ip:")
    )
    n_packets = int(dict(zip(names, values, strict=True))["OutNoRoutes"])
    ipv6 = Path("/proc/net/snmp6")
    if ipv6.exists():
        counters = dict(line.split() for line in ipv6.read_text().splitlines())
        n_packets += int(counters["Ip6OutNoRoutes"])
    return n_packets


WORK: dict[str, Callable[[Path], None]] = {
    "leave": leave, "app": use_app, "command-line": use_command_line,
}  # fmt: skip


def main(work: str, folder: str) -> None:
    """Do the work in this namespace, and print the traffic as JSON."""
    _start_loopback()
    with _recording_resolver(Path(folder)) as queries:
        WORK[work](Path(folder))
        print(json.dumps(asdict(Traffic(tuple(queries), _count_packets()))))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
