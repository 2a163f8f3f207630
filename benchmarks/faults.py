"""Processes killed at random moments: ``python -m benchmarks.faults [--rounds N] [--seed S]``.

A third of the rounds each ends a run, a download, and the server of the app by SIGKILL. The work is
started again, and its result is compared with that of undisturbed work: a run bit for bit, a
dataset by the hashes of its files, and the app by its acknowledged runs and datasets. The exit code
is 1 if anything is lost or different.
"""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import psutil
import requests
from websockets.exceptions import ConnectionClosed

from bc_model.data import (
    RegisteredDataset,
    add_archive,
    add_synthetic,
    generate_dataset,
    list_datasets,
    list_downloads,
    open_dataset,
    start_download,
)
from bc_model.errors import BcModelError
from bc_model.inference import file_sha256
from bc_model.jobs import ENDED_STATES, FINAL_STATES, Job
from bc_model.training import Run, advance_queue, list_runs
from benchmarks.load import UPLOADER, make_accepted_image, read_answer
from benchmarks.resume import hash_weights, read_metrics
from benchmarks.streamlit_client import AppServer, Session

ROUNDS = 50
MAX_KILLS = 3
"""Kills of one run or download, before it is left to end."""
TIMEOUT_S = 300.0
_WORKER_TIMEOUT_S = 10.0
_BYTES_PER_S = 1_000_000
_MAX_USE_S = 3.0


@dataclass
class Result:
    """The outcome of the rounds of one kind. A round is one kill.

    Attributes
    ----------
    n_works : int
        Number of runs, downloads or servers that were started.
    kills : dict of str to int
        Number of kills by the phase of the work.
    lost : list of str
        What was lost or is different.
    note : str
        What was achieved.
    """

    kind: str
    n_works: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def n_kills(self) -> int:
        """Number of all kills, the rounds."""
        return sum(self.kills.values())

    def count(self, phase: str) -> None:
        """Count a kill in a phase."""
        self.kills[phase] = self.kills.get(phase, 0) + 1


# Training.


def kill_training(rounds: int, rng: random.Random, folder: Path) -> Result:
    """Kill runs from their first instruction to their evaluation, and resume each to its end."""
    generate_dataset(folder / "data", n_cases=10, images_per_case=3, size=(64, 96))
    start_s = time.monotonic()
    reference = Run(folder / "reference")
    _finish(_train(folder, reference, []))
    duration_s = time.monotonic() - start_s
    expected = _describe_run(reference)
    result = Result("training")
    while result.n_kills < rounds:
        run = Run(folder / f"run{result.n_works}")
        result.n_works += 1
        for _ in range(min(rng.randint(1, MAX_KILLS), rounds - result.n_kills)):
            child = _train(folder, run, _resume_option(run))
            try:
                child.wait(rng.uniform(0.0, 1.05 * duration_s))
                break
            except subprocess.TimeoutExpired:
                result.count(_phase(run))
                child.kill()
                child.wait()
        result.lost += [
            f"{run.name}: {text}" for text in _resume_and_compare(folder, run, expected)
        ]
    return result


def _resume_and_compare(folder: Path, run: Run, expected: dict[str, object]) -> list[str]:
    """Resume a run to its end, and return the differences from an undisturbed run."""
    if not run.status_file.exists() or run.read_status()["state"] != "done":
        child = _train(folder, run, _resume_option(run))
        if _finish(child):
            message = (folder / "stderr").read_text().strip().rpartition("\n")[2]
            return [f"the run cannot be resumed: {message}"]
    found = _describe_run(run)
    lost = [f"different {name}" for name, value in expected.items() if found[name] != value]
    if left := [path.name for path in run.path.rglob("*.tmp")]:
        lost.append(f"temporary files {left[:3]}")
    return lost


def _train(folder: Path, run: Run, resume: list[str]) -> subprocess.Popen:
    """Start the command that a user types, again with the same options or with `--resume`."""
    options = [
        str(folder / "data"), "--weights", "none", "--backbone", "tiny", "--image-size", "32x32",
        "--head-epochs", "3", "--finetune-epochs", "5", "--batch-size", "4", "--seed", "3",
        "--deterministic",
    ]  # fmt: skip
    command = [sys.executable, "-m", "bc_model", "train", *(resume or options)]
    with (folder / "stderr").open("wb") as errors:
        return subprocess.Popen(
            [*command, "--run", str(run.path)], stdout=subprocess.DEVNULL, stderr=errors
        )


def _finish(child: subprocess.Popen) -> int:
    try:
        return child.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _resume_option(run: Run) -> list[str]:
    """Return the option to resume a run; a run killed before its first file is started again."""
    return ["--resume"] if run.status_file.exists() else []


def _phase(run: Run) -> str:
    try:
        status = run.read_status()
    except BcModelError:
        return "before the run"
    return str(status.get("phase") or status["state"])


def _describe_run(run: Run) -> dict[str, object]:
    """Return everything that must be equal to the bit."""
    predictions = (run.evaluation_dir / "predictions.csv").read_bytes()
    return {
        "weights": hash_weights(run),
        "history": read_metrics(run),
        "predictions": hashlib.sha256(predictions).hexdigest(),
    }


# Downloads.


class _FileHandler(BaseHTTPRequestHandler):
    """Serve one file slowly, with ranges."""

    content = b""

    def do_GET(self) -> None:
        requested = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
        start = int(requested or 0)
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(self.content) - start))
        last = len(self.content) - 1
        self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
        self.end_headers()
        with suppress(OSError):  # The client was killed.
            for i in range(start, len(self.content), 2**16):
                self.wfile.write(self.content[i : i + 2**16])
                time.sleep(2**16 / _BYTES_PER_S)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


@contextmanager
def _file_server(content: bytes) -> Iterator[str]:
    handler = type("Handler", (_FileHandler,), {"content": content})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/set.zip"
        server.shutdown()


def kill_downloads(rounds: int, rng: random.Random, folder: Path) -> Result:
    """Kill downloads while they receive and unpack a file, and resume each to its end."""
    archive, registry = _make_archive(folder / "images"), folder / "registry"
    checksum = hashlib.sha256(archive).hexdigest()
    expected = _hash_images(
        add_archive(io.BytesIO(archive), "reference", registry=registry).dataset
    )
    result = Result("download")
    # Starting Python takes a part of this time, and the file server the rest.
    duration_s = 1.5 + len(archive) / _BYTES_PER_S
    with _file_server(archive) as url:
        while result.n_kills < rounds:
            name = f"set{result.n_works}"
            result.n_works += 1

            def start(name: str = name) -> None:
                start_download(name, url=f"{url}/{name}.zip", sha256=checksum, registry=registry)

            for _ in range(min(rng.randint(1, MAX_KILLS), rounds - result.n_kills)):
                start()
                time.sleep(rng.uniform(0.0, duration_s))
                if (phase := _kill_download(name, registry)) is None:
                    break
                result.count(phase)
            if not (registry / name).exists():
                start()
                _wait_until(lambda name=name: _find_process(name, registry) is None)
            try:
                if _hash_images(open_dataset(name, registry)) != expected:
                    result.lost.append(f"{name}: different files")
            except BcModelError as error:
                result.lost.append(f"{name}: {error}")
    left = [path.name for path in registry.glob(".downloads/*.part*")]
    if left or list_downloads(registry):
        result.lost.append(f"files of downloads are left: {left[:3]}")
    return result


def _make_archive(folder: Path) -> bytes:
    """Return a zip file with synthetic images of about 2 MB."""
    generate_dataset(folder, n_cases=10, images_per_case=6, size=(115, 175))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()


def _hash_images(dataset: RegisteredDataset) -> dict[str, str]:
    return {
        path.relative_to(dataset.images_dir).as_posix(): file_sha256(path)
        for path in dataset.images_dir.rglob("*.png")
    }


def _find_process(name: str, registry: Path) -> psutil.Process | None:
    """Return the living process of a download."""
    try:
        status = Job(registry / ".downloads" / name).read_status()
        if status["state"] in ENDED_STATES:
            return None
        return psutil.Process(status["pid"])
    except (BcModelError, psutil.NoSuchProcess):
        return None


def _kill_download(name: str, registry: Path) -> str | None:
    """Kill the process of a download, and return its phase; None if there is no process."""
    states = {download.name: download for download in list_downloads(registry)}
    process = _find_process(name, registry)
    if process is None:
        return None
    process.kill()
    process.wait()
    return states[name].phase or states[name].state if name in states else "publishing"


# The app.


def kill_app(rounds: int, rng: random.Random, folder: Path) -> Result:
    """Kill the server while three sessions classify, add a dataset, and queue a run."""
    # The runs are awaited, so their priority is not lowered.
    server = AppServer(folder, environment={"BC_NICENESS": "0"})
    add_synthetic(
        "training", n_cases=10, images_per_case=1, size=(48, 64), registry=server.datasets
    )
    archive, image = _make_archive(folder / "images"), make_accepted_image()
    expected = _hash_images(
        add_archive(io.BytesIO(archive), "reference", registry=server.datasets).dataset
    )
    server.start()
    with Session(server.url) as session:
        session.upload(UPLOADER, [("image_20x.png", image)])
        answer = read_answer(session)
    result, acknowledged = Result("app"), _Acknowledged()
    for number in range(rounds):
        # All sessions are ready at the same time, so that the kill hits their actions.
        barrier = threading.Barrier(4)
        sessions = [
            threading.Thread(target=_use_until_killed, args=(barrier, use, server.url, *arguments))
            for use, *arguments in (
                (_classify, image, answer, result),
                (_add_dataset, f"set{number}", archive, acknowledged),
                (_queue_run, acknowledged),
            )
        ]
        for thread in sessions:
            thread.start()
        barrier.wait(TIMEOUT_S)
        time.sleep(rng.uniform(0.0, _MAX_USE_S))
        workers = _list_workers(server)
        server.process.kill()
        server.process.wait()
        for thread in sessions:
            thread.join()
        result.count(acknowledged.describe_new())
        result.n_works += 1
        problems = acknowledged.find_lost(server, expected)
        result.lost += [f"round {number}: {text}" for text in problems]
        if psutil.wait_procs(workers, timeout=_WORKER_TIMEOUT_S)[1]:
            result.lost.append(f"round {number}: a worker of the server outlived it")
        server.start()
    try:
        result.lost += _finish_runs(server)
    finally:
        server.kill()
    n_datasets = len(acknowledged.datasets)
    result.note = f", {acknowledged.n_runs} runs and {n_datasets} datasets acknowledged"
    return result


@dataclass
class _Acknowledged:
    """What the app has confirmed: names of datasets, and the number of queued runs."""

    datasets: list[str] = field(default_factory=list)
    n_runs: int = 0
    _described: tuple[int, int] = (0, 0)

    def describe_new(self) -> str:
        """Return what was confirmed since the last call."""
        before, self._described = self._described, (self.n_runs, len(self.datasets))
        names = ("run", "dataset")
        new = [n for n, old, now in zip(names, before, self._described, strict=True) if now > old]
        return f"after {' and '.join(new)}" if new else "before any answer"

    def find_lost(self, server: AppServer, images: dict[str, str]) -> list[str]:
        """Return what is missing or incomplete on the disk."""
        lost = []
        found, problems = list_datasets(server.datasets)
        lost += problems
        for dataset in found:
            if dataset.name.startswith("set") and _hash_images(dataset) != images:
                lost.append(f"the dataset {dataset.name} is incomplete")
        names = {dataset.name for dataset in found}
        lost += [f"the dataset {name} is missing" for name in self.datasets if name not in names]
        runs = list_runs(server.runs)
        if len(runs) < self.n_runs:
            lost.append(f"{len(runs)} of {self.n_runs} runs are left")
        for run in runs:
            try:
                run.read_status()
                run.read_config()
            except BcModelError as error:
                lost.append(str(error))
        return lost


def _use_until_killed(
    barrier: threading.Barrier, use: Callable[..., None], *arguments: object
) -> None:
    """Use the app until its server is killed; an earlier error breaks the barrier."""
    try:
        use(barrier.wait, *arguments)
    except (OSError, ConnectionClosed, EOFError, requests.RequestException):
        barrier.abort()
    except BaseException:
        barrier.abort()
        raise


def _classify(
    wait: Callable[[], object], url: str, image: bytes, answer: dict, result: Result
) -> None:
    with Session(url) as session:
        wait()
        while True:
            session.upload(UPLOADER, [("image_20x.png", image)])
            if (found := read_answer(session)) != answer:
                result.lost.append(f"another answer: {found}")


def _add_dataset(
    wait: Callable[[], object], url: str, name: str, archive: bytes, acknowledged: _Acknowledged
) -> None:
    with Session(url, "data") as session:
        session.set(
            "button_group", "Source", "string_array_value", [":material/upload: Zip upload"]
        )
        session.rerun()
        session.upload("Zip file", [(f"{name}.zip", archive)])
        wait()
        session.click("Add")
        if any(f"{name} with" in text for text in session.texts("alert") + session.texts("toast")):
            acknowledged.datasets.append(name)


def _queue_run(wait: Callable[[], object], url: str, acknowledged: _Acknowledged) -> None:
    with Session(url, "train") as session:
        session.set("selectbox", "Dataset", "string_value", "training")
        session.set("selectbox", "Backbone", "string_value", "tiny (tests only)")
        session.rerun()
        session.set("selectbox", "Initial weights", "string_value", "None (from scratch)")
        for label, value in (("Head epochs", 1), ("Fine-tuning epochs", 1), ("Folds", 3)):
            session.set("number_input", label, "double_value", value)
        session.rerun()
        wait()
        session.click("Start run")
        acknowledged.n_runs += 1
        while True:  # The page refreshes itself, and thereby starts the next run of the queue.
            session.rerun()
            time.sleep(0.5)


def _list_workers(server: AppServer) -> list[psutil.Process]:
    """Return the child processes that must end with the server: all but the runs."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    workers = []
    for child in children:
        with suppress(psutil.Error):
            if "bc_model" not in child.cmdline():
                workers.append(child)
    return workers


def _finish_runs(server: AppServer) -> list[str]:
    """Wait for the queue, and return what did not finish or ran at the same time."""
    lost: set[str] = set()

    def is_over() -> bool:
        advance_queue(server.runs)
        states = [run.read_status()["state"] for run in list_runs(server.runs)]
        if sum(state in ("starting", "running") for state in states) > 1:
            lost.add("two runs at the same time")
        return set(states) <= FINAL_STATES | {"interrupted"}

    _wait_until(is_over, 2 * TIMEOUT_S)
    for run in list_runs(server.runs):
        if (state := run.read_status()["state"]) != "done":
            lost.add(f"run {run.name} is {state}")
    return sorted(lost)


def _wait_until(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> bool:
    """Wait until a condition is true, and return whether it became true in time."""
    end_s = time.monotonic() + timeout_s
    while not (is_true := condition()) and time.monotonic() < end_s:
        time.sleep(0.1)
    return is_true


KINDS = {"training": kill_training, "download": kill_downloads, "app": kill_app}


@click.command()
@click.option("--rounds", type=click.IntRange(1, 500), default=ROUNDS, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Seed for the times of the kills.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Only these.")
def main(rounds: int, seed: int, kinds: tuple[str, ...]) -> None:
    """Kill runs, downloads and the server at random moments, and look for losses."""
    chosen = kinds or tuple(KINDS)
    is_lost = False
    for i, kind in enumerate(chosen):
        n_rounds = rounds // len(chosen) + (i < rounds % len(chosen))
        start_s = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            result = KINDS[kind](n_rounds, random.Random(f"{seed}-{kind}"), Path(folder))
        kills = ", ".join(f"{phase} {count}" for phase, count in sorted(result.kills.items()))
        click.echo(
            f"{kind}: {result.n_kills} kills ({kills}), {result.n_works} started, "
            f"{len(result.lost)} lost or different{result.note}, "
            f"{time.monotonic() - start_s:.0f} s"
        )
        for text in result.lost:
            click.echo(f"  {text}")
        is_lost = is_lost or bool(result.lost)
    if is_lost:
        sys.exit(1)


if __name__ == "__main__":
    main()
