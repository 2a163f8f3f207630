"""A local server of one file that can break connections, ignore ranges and change the file."""

import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

CONTENT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(250_000)


class Server(ThreadingHTTPServer):
    """A server of one file with configurable faults.

    `breaks` lists the number of bytes after which each response breaks; later ones are complete.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag = '"one"'
        self.last_modified = "Wed, 21 Oct 2015 07:28:00 GMT"
        self.breaks: list[int] = []
        self.codes: list[int] = []
        self.supports_ranges = True
        self.checks_if_range = True
        self.sends_length = True
        self.redirect_url = ""
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server
    timeout: ClassVar[float] = 10

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers.items()))
        if server.codes and (code := server.codes.pop(0)) != 200:
            self.send_error(code)
            return
        if server.redirect_url:
            self.send_response(302)
            self.send_header("Location", server.redirect_url)
            self.end_headers()
            return
        start = self._find_start()
        if start >= len(server.content) > 0:
            self.send_response(416)
            self._send_validators()
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self._send_validators()
        if server.sends_length:
            self.send_header("Content-Length", str(len(body)))
        if start:
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
        self.end_headers()
        self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

    def _find_start(self) -> int:
        requested = self.headers.get("Range", "")
        if not requested or not self.server.supports_ranges:
            return 0
        if_range = self.headers.get("If-Range")
        if self.server.checks_if_range and if_range not in (
            self.server.etag,
            self.server.last_modified,
        ):
            return 0
        return int(requested.removeprefix("bytes=").removesuffix("-"))

    def _send_validators(self) -> None:
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if self.server.last_modified:
            self.send_header("Last-Modified", self.server.last_modified)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""
