"""Sessions of the app without a browser: Streamlit's WebSocket protocol, and a server to start.

A session sends what the frontend of Streamlit sends, and keeps the elements of the page. It runs no
JavaScript, so one process can hold many sessions.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psutil
import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileUploaderState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

START_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 120.0
XSRF_COOKIE = "_streamlit_xsrf"
ROOT = Path(__file__).resolve().parents[1]

Element = tuple[str, Any]
"""Type of an element, such as 'metric', and its message."""


class Session:
    """One session of the app, as a tab of a browser has it; close it, or use it as a context.

    Parameters
    ----------
    url : str
        Address of the server, such as ``http://127.0.0.1:8501``.
    page : str
        Path of the first page, such as ``train``. Empty for the default page.
    query : str
        Query of the address, such as ``model=bundled``.
    """

    def __init__(self, url: str, page: str = "", query: str = "") -> None:
        self.url, self.query = url, query
        self._http = requests.Session()
        self._http.trust_env = False  # No proxy.
        self._http.headers["Origin"] = url
        # The server closes idle connections after 5 s, maybe while a request is on its way. A
        # browser then repeats the request on a new connection.
        self._http.headers["Connection"] = "close"
        self._get("/_stcore/health")
        self._xsrf = self._http.cookies.get(XSRF_COOKIE, "")
        self._socket = connect(
            url.replace("http", "ws", 1) + "/_stcore/stream",
            origin=url,
            subprotocols=["streamlit", self._xsrf] if self._xsrf else ["streamlit"],
            additional_headers={"Cookie": f"{XSRF_COOKIE}={self._xsrf}"},
            max_size=None,
            open_timeout=RUN_TIMEOUT_S,
            ping_interval=None,
            proxy=None,
        )
        self._id = ""
        self._page = ""
        self._cached: dict[str, ForwardMsg] = {}
        self._widgets: dict[str, tuple[str, Any]] = {}
        self._elements: dict[tuple[int, ...], Element] = {}
        self._seen: set[tuple[int, ...]] = set()
        self.open_page(page)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, as a browser does with a tab."""
        with contextlib.suppress(OSError):
            self._socket.close()
        self._http.close()

    @property
    def elements(self) -> list[Element]:
        """The elements of the page from top to bottom."""
        return [self._elements[path] for path in sorted(self._elements)]

    def texts(self, kind: str) -> list[str]:
        """Return the bodies of the elements of a type, such as 'alert' or 'heading'."""
        return [value.body for name, value in self.elements if name == kind]

    def find(self, kind: str, label: str) -> Any:
        """Return the element of a type with a label; raise LookupError if there is none."""
        for name, value in self.elements:
            if name == kind and value.label == label:
                return value
        raise LookupError(f"The page has no {kind} '{label}'. Alerts: {self.texts('alert')}")

    def open_page(self, page: str) -> None:
        """Open a page by its path, and wait until it is complete."""
        message = BackMsg()
        message.rerun_script.page_name = page
        self._run(message)

    def rerun(self) -> None:
        """Run the page with the current values of the widgets."""
        self._run(self._rerun_message())

    def click(self, label: str) -> None:
        """Press a button and wait until the page is complete."""
        message = self._rerun_message()
        message.rerun_script.widget_states.widgets.add(
            id=self.find("button", label).id, trigger_value=True
        )
        self._run(message)

    def set(self, kind: str, label: str, field: str, value: Any) -> None:
        """Set a widget without a rerun; `field` is that of Streamlit's ``WidgetState``."""
        self._widgets[self.find(kind, label).id] = field, value

    def upload(self, label: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Select files, (name, content), in an uploader, and wait until the page is complete."""
        request = BackMsg()
        request.file_urls_request.request_id = str(uuid.uuid4())
        request.file_urls_request.session_id = self._id
        request.file_urls_request.file_names.extend(name for name, _ in files)
        self._socket.send(request.SerializeToString())
        addresses = self._receive_until("file_urls_response").file_urls_response.file_urls
        state = FileUploaderState()
        for (name, content), address in zip(files, addresses, strict=True):
            response = self._http.put(
                self.url + address.upload_url,
                files={"file": (name, content)},
                headers={"X-Xsrftoken": self._xsrf},
                timeout=RUN_TIMEOUT_S,
            )
            response.raise_for_status()
            state.uploaded_file_info.add(
                name=name, size=len(content), file_id=address.file_id, file_urls=address
            )
        self.set("file_uploader", label, "file_uploader_state_value", state)
        self.rerun()

    def _get(self, path: str) -> None:
        self._http.get(self.url + path, timeout=RUN_TIMEOUT_S).raise_for_status()

    def _rerun_message(self) -> BackMsg:
        message = BackMsg()
        message.rerun_script.page_script_hash = self._page
        for widget_id, (field, value) in self._widgets.items():
            state = message.rerun_script.widget_states.widgets.add(id=widget_id)
            if field == "file_uploader_state_value":
                state.file_uploader_state_value.CopyFrom(value)
            elif field == "string_array_value":
                state.string_array_value.data.extend(value)
            else:
                setattr(state, field, value)
        return message

    def _run(self, message: BackMsg) -> None:
        message.rerun_script.query_string = self.query
        self._socket.send(message.SerializeToString())
        # The server ends a run early if the page asks for another one.
        early = ForwardMsg.ScriptFinishedStatus.Value("FINISHED_EARLY_FOR_RERUN")
        while self._receive_until("script_finished").script_finished == early:
            continue
        self._elements = {p: e for p, e in self._elements.items() if p in self._seen}

    def _receive_until(self, kind: str) -> ForwardMsg:
        end_s = time.monotonic() + RUN_TIMEOUT_S
        while (left_s := end_s - time.monotonic()) > 0:
            message = ForwardMsg.FromString(self._socket.recv(timeout=left_s))
            found = self._handle(message)
            if found == kind:
                return message
        raise TimeoutError(f"The server sent no {kind} within {RUN_TIMEOUT_S:.0f} s.")

    def _handle(self, message: ForwardMsg) -> str | None:
        """Apply a message to the page, and return its type."""
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            cached, metadata = self._cached[message.ref_hash], message.metadata
            message = ForwardMsg()
            message.CopyFrom(cached)
            message.metadata.CopyFrom(metadata)
            kind = message.WhichOneof("type")
        elif message.metadata.cacheable:
            self._cached[message.hash] = message
        if kind == "new_session":
            self._id = message.new_session.initialize.session_id or self._id
            self._page = message.new_session.page_script_hash
            if not message.metadata.run.fragment_ids:
                self._seen = set()
        elif kind == "navigation":
            self._page = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "delta":
            self._apply(tuple(message.metadata.delta_path), message.delta)
        return kind

    def _apply(self, path: tuple[int, ...], delta: Any) -> None:
        if delta.WhichOneof("type") != "new_element":
            return
        kind = delta.new_element.WhichOneof("type")
        self._elements = {p: e for p, e in self._elements.items() if p[: len(path)] != path}
        self._elements[path] = kind, getattr(delta.new_element, kind)
        self._seen.add(path)


class AppServer:
    """A server of the app in a process of its own.

    Parameters
    ----------
    folder : Path
        Folder for the runs, the datasets and the log.
    port : int, optional
        Default: a free port.
    environment : mapping, optional
        Further environment variables.
    """

    def __init__(
        self, folder: Path, port: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.runs, self.datasets = folder / "runs", folder / "datasets"
        self.port = port or find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._environment = {
            **os.environ, "BC_RUNS": str(self.runs), "BC_DATASETS": str(self.datasets),
            **(environment or {}),
        }  # fmt: skip

    def start(self) -> None:
        """Start the server, and wait until it responds."""
        command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--server.port", str(self.port)], cwd=ROOT, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        end_s = time.monotonic() + START_TIMEOUT_S
        while not self._responds():
            if self.process.poll() is not None or time.monotonic() > end_s:
                self.kill()
                raise RuntimeError(f"The server did not start. Log: {self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server and its workers by SIGKILL; training processes are not its children."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def memory_mb(self) -> float:
        """Return the memory of the server and its workers, without pages counted twice."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 2**20

    def _processes(self) -> list[psutil.Process]:
        try:
            server = psutil.Process(self.process.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _responds(self) -> bool:
        try:
            with requests.Session() as http:
                http.trust_env = False
                return http.get(f"{self.url}/_stcore/health", timeout=2).ok
        except requests.RequestException:
            return False


@contextmanager
def running_server(
    folder: Path, port: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[AppServer]:
    """Start a server for a block, and end it."""
    server = AppServer(folder, port, environment)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def find_free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
