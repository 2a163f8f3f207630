"""The lines for nginx in docs/deployment.md, run by the nginx of this machine."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from tests.app.server.running_server import ROOT, Address, find_free_port, run_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("nginx") is None or shutil.which("openssl") is None,
        reason="nginx or openssl is not installed",
    ),
]

NAME = "histology.example.org"
LINES = re.search(
    r"```nginx\n(map .*?)```", (ROOT / "docs/deployment.md").read_text(encoding="utf-8"), re.DOTALL
)[1]  # type: ignore[index]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a self-signed certificate."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         f"/CN={NAME}", "-keyout", folder / "histology.key", "-out", folder / "histology.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@contextlib.contextmanager
def run_nginx(folder: Path, certificate: Path, app: Address, lines: str) -> Iterator[Address]:
    """Run nginx with its documented lines, on other ports and with other certificates."""
    port = find_free_port()
    lines = (
        lines.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        .replace("/etc/ssl/certs", str(certificate))
        .replace("/etc/ssl/private", str(certificate))
        .replace("127.0.0.1:8501", f"127.0.0.1:{app.port}")
    )
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; user root;"
        f"events {{}} http {{ access_log off; {temporary}\n{lines}\n}}"
    )
    command = ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    process = subprocess.Popen(command)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    address = Address(port, f"{NAME}:{port}", tls)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                address.request("GET", "/")
                break
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def upload(server: Address, content: bytes) -> int:
    """Upload a file as a tab of a browser does, and return the status."""
    cookie = server.request("GET", "/_stcore/health")[1]["set-cookie"].partition(";")[0]
    headers = {"Cookie": cookie, "Origin": f"https://{server.host}"}
    token = cookie.partition("=")[2]
    with connect(
        f"wss://{server.host}/_stcore/stream",
        sock=socket.create_connection(("127.0.0.1", server.port)),
        ssl=server.tls, server_hostname=NAME, origin=headers["Origin"],
        subprotocols=["streamlit", token], additional_headers={"Cookie": cookie}, proxy=None,
    ) as tab:  # fmt: skip
        start = BackMsg()
        start.rerun_script.query_string = ""
        tab.send(start.SerializeToString())
        ask = BackMsg()
        while True:
            answer = ForwardMsg.FromString(tab.recv(timeout=30))
            if answer.HasField("new_session"):
                ask.file_urls_request.request_id = "a"
                ask.file_urls_request.session_id = answer.new_session.initialize.session_id
                ask.file_urls_request.file_names.append("a.png")
                tab.send(ask.SerializeToString())
            if answer.HasField("file_urls_response"):
                break
        path = answer.file_urls_response.file_urls[0].upload_url
        form = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
            + content + b"\r\n--x--\r\n"
        )  # fmt: skip
        headers |= {"X-Xsrftoken": token, "Content-Type": "multipart/form-data; boundary=x"}
        return server.request("PUT", path, form, **headers)[0]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Start the app with its public name."""
    folder = tmp_path_factory.mktemp("app")
    with run_server(folder, f"--server.allowedHosts={NAME}") as address:
        yield address


def test_documented_lines_serve_the_app(app: Address, certificate: Path, tmp_path: Path) -> None:
    with run_nginx(tmp_path, certificate, app, LINES) as proxy:
        assert proxy.request("GET", "/data")[0] == 200
        assert proxy.request("GET", "/_stcore/health")[2] == "ok"
        origin = f"https://{proxy.host}"
        assert proxy.shake_hands(proxy.host, origin).startswith("HTTP/1.1 101")
        assert proxy.shake_hands(proxy.host, "https://evil.example").startswith("HTTP/1.1 403")
        # More than the 1 MB that nginx allows by default.
        assert upload(proxy, b"x" * 2_000_000) == 204
        status, _, text = proxy.request("GET", "/", Host="evil.example")
        assert (status, "Unknown host name" in text) == (400, True)


def test_lines_without_host_show_the_reason(
    app: Address, certificate: Path, tmp_path: Path
) -> None:
    lines = LINES.replace("proxy_set_header Host $http_host;", "")
    with run_nginx(tmp_path, certificate, app, lines) as proxy:
        origin = f"https://{proxy.host}"
        answer = proxy.shake_hands(proxy.host, origin)
        assert answer.startswith("HTTP/1.1 403")
        assert f"'{proxy.host}'" in answer
        assert f"'127.0.0.1:{app.port}'" in answer
        script = proxy.request("GET", "/static/js/index.js", Referer=f"{origin}/")[2]
        assert "must keep the Host header" in script


def test_lines_with_a_small_body_limit_refuse_an_upload(
    app: Address, certificate: Path, tmp_path: Path
) -> None:
    lines = LINES.replace("client_max_body_size 510m;", "")
    with run_nginx(tmp_path, certificate, app, lines) as proxy:
        body = b"x" * 2_000_000
        assert proxy.request("PUT", "/_stcore/upload_file/a/b", body)[0] == 413


def test_app_below_a_path(certificate: Path, tmp_path: Path) -> None:
    lines = LINES.replace("location / {", "location /histology/ {")
    options = (f"--server.allowedHosts={NAME}", "--server.baseUrlPath=histology")
    with (
        run_server(tmp_path / "app", *options, base="/histology") as app,
        run_nginx(tmp_path, certificate, app, lines) as proxy,
    ):
        assert proxy.request("GET", "/histology/_stcore/health")[2] == "ok"
        origin = f"https://{proxy.host}"
        answer = proxy.shake_hands(proxy.host, origin, "/histology/_stcore/stream")
        assert answer.startswith("HTTP/1.1 101")
        assert proxy.request("GET", "/histology/_stcore/metrics")[0] == 404


def test_app_that_allows_the_origin_works_behind_another_host(
    certificate: Path, tmp_path: Path
) -> None:
    """For a proxy that cannot keep the Host header. No address is looked up either."""
    lines = LINES.replace("proxy_set_header Host $http_host;", "")
    option = f"--server.corsAllowedOrigins=https://{NAME}"
    with (
        run_server(tmp_path / "app", option) as app,
        run_nginx(tmp_path, certificate, app, lines) as proxy,
    ):
        assert proxy.shake_hands(NAME, f"https://{NAME}").startswith("HTTP/1.1 101")
        assert proxy.shake_hands(NAME, f"https://{NAME}:1").startswith("HTTP/1.1 403")
    assert not (tmp_path / "app/record.txt").exists()
