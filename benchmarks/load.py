"""Many users of one server: ``python -m benchmarks.load [--hostile] [--json]``.

Sessions upload images to the real server without a pause, and each answer is compared with that of
a single user: the name, the outcome, the probability, and the hashes of the image and its map.
With ``--hostile``, eight more sessions upload images that are made to exhaust the server. The exit
code is 1 if an answer is wrong or missing, the memory grows, or a limit is exceeded.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model.data import generate_image
from bc_model.gradcam import encode_png
from benchmarks.bombs import BOMBS
from benchmarks.streamlit_client import AppServer, Session, running_server
from benchmarks.timing import describe_machine

SESSIONS = 32
SECONDS = 150
SEEDS = (0, 1, 2, 7, 10, 15, 18, 20, 21, 29, 33, 34, 40, 41, 53, 58, 60, 65)
"""Of drawings that the bundled model accepts at 20x. Most drawings do not resemble tissue."""
MAX_IMAGES_PER_UPLOAD = 3
MAX_MEMORY_GROWTH = 0.10
"""Growth from the third quarter to the last one. Before, the caches and sessions fill up."""

HOSTILE_SESSIONS = 8
MAX_HOSTILE_MB = 16
"""Larger files cost the attacker as much as the server."""
QUIET_USERS = 4
MAX_HOSTILE_MEMORY_MB = 2500
MAX_SLOWDOWN = 2.0

UPLOADER = "Images"
PROBABILITY = "Estimated probability of malignancy"

Answer = dict[str, tuple[str, ...]]
"""The outcome, the probability and the addresses of all images, by file name."""


@dataclass
class Load:
    """What the users of a test experienced.

    Attributes
    ----------
    times_s : list of float
        Duration of each upload, until its page was complete.
    wrong, errors : list of str
        Answers that differ from those of a single user, and answers that are missing.
    memory_mb : list of float
        Memory of the server and its workers, once per second.
    """

    times_s: list[float] = field(default_factory=list)
    n_images: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Return a percentile of the durations, s."""
        return float(np.percentile(self.times_s, percent)) if self.times_s else float("nan")

    @property
    def memory_growth(self) -> float:
        """Relative growth of the memory from the third quarter of the test to the last one."""
        *_, third, last = np.array_split(self.memory_mb, 4)
        return float(np.median(last) / np.median(third) - 1)


def read_answer(session: Session) -> Answer:
    """Return the prediction cards of the page Classify; raise RuntimeError if it shows an error."""
    for kind, value in session.elements:
        if kind == "exception" or (kind == "alert" and value.format == value.ERROR):
            raise RuntimeError(str(value)[:300])
    cards: dict[str, list[str]] = {}
    parts: list[str] = []
    for kind, value in session.elements:
        if kind == "heading":
            parts = cards.setdefault(value.body.replace("\\", ""), [])  # Names are escaped.
        elif kind == "metric":
            parts.append(value.body)
        elif kind == "imgs":
            # The address of an image contains the hash of its bytes.
            parts.extend(image.url for image in value.imgs)
    return {name: tuple(parts) for name, parts in cards.items() if name.endswith(".png")}


def make_accepted_image(seed: int = SEEDS[0]) -> bytes:
    """Return a drawing as PNG that the bundled model accepts at 20x."""
    return encode_png(generate_image(malignant=True, seed=seed, case_seed=seed))


def add_text_chunk(png: bytes, text: str) -> bytes:
    """Return a PNG file with a text, so that its hash is new and its pixels are the same."""
    body = b"tEXtComment\0" + text.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:-12] + chunk + png[-12:]


def measure_single_user(url: str, images: list[bytes]) -> tuple[list[tuple[str, ...]], Load]:
    """Return the answer for each image to a single user, and the durations."""
    load, answers = Load(), []
    with Session(url) as session:
        for image in images:
            start_s = time.monotonic()
            session.upload(UPLOADER, [("image_20x.png", image)])
            load.times_s.append(time.monotonic() - start_s)
            answers.append(read_answer(session)["image_20x.png"])
    return answers, load


def simulate_users(
    server: AppServer, images: list[bytes], answers: list[tuple[str, ...]], n_users: int,
    seconds: float, seed: int = 0,
) -> Load:  # fmt: skip
    """Let users upload images at the same time, and compare their answers."""
    load, lock = Load(), threading.Lock()
    end_s = time.monotonic() + seconds

    def use(number: int) -> None:
        rng = random.Random(f"{seed}-{number}")
        n_uploads = 0
        while time.monotonic() < end_s:
            try:
                with Session(server.url) as session:
                    for _ in range(rng.randrange(2, 7)):
                        if time.monotonic() > end_s:
                            return
                        n_uploads += 1
                        upload(session, rng, f"{seed}-{number}-{n_uploads}")
            except Exception as error:  # Every error is counted and reported.
                with lock:
                    load.errors.append(f"{type(error).__name__}: {error}")
                time.sleep(0.5)

    def upload(session: Session, rng: random.Random, tag: str) -> None:
        chosen = rng.sample(range(len(images)), rng.choice(range(1, MAX_IMAGES_PER_UPLOAD + 1)))
        names = {f"{tag}-{i}_20x.png": i for i in chosen}
        files = [(name, add_text_chunk(images[i], name)) for name, i in names.items()]
        start_s = time.monotonic()
        session.upload(UPLOADER, files)
        duration_s = time.monotonic() - start_s
        found = read_answer(session)
        expected = {name: answers[i] for name, i in names.items()}
        with lock:
            load.times_s.append(duration_s)
            load.n_images += len(files)
            if found != expected:
                load.wrong.append(f"{tag}: {found} instead of {expected}")

    with ThreadPoolExecutor(n_users) as pool:
        users = [pool.submit(use, number) for number in range(n_users)]
        while not all(user.done() for user in users):
            load.memory_mb.append(server.memory_mb())
            time.sleep(1.0)
        for user in users:
            user.result()
    return load


@contextmanager
def hostile_uploads(url: str, errors: list[str]) -> Iterator[None]:
    """Upload hostile images in eight sessions, again and again, during a block."""
    files = [(bomb.file_name, bomb.make()) for bomb in BOMBS if not bomb.is_slow]
    files = [(name, data) for name, data in files if len(data) <= MAX_HOSTILE_MB * 2**20]
    is_over = threading.Event()

    def attack(number: int) -> None:
        n_uploads = number
        while not is_over.is_set():
            try:
                with Session(url) as session:
                    session.upload(UPLOADER, [files[n_uploads % len(files)]])
            except Exception as error:  # The server may refuse an attacker, but must not end.
                errors.append(f"{type(error).__name__}: {error}")
            n_uploads += HOSTILE_SESSIONS
            is_over.wait(1.0)

    with ThreadPoolExecutor(HOSTILE_SESSIONS) as pool:
        attacks = [pool.submit(attack, number) for number in range(HOSTILE_SESSIONS)]
        try:
            yield
        finally:
            is_over.set()
        for one in attacks:
            one.result()


def measure_load(sessions: int, seconds: float) -> tuple[dict[str, Any], list[str]]:
    """Return the numbers of the load test, and the broken limits."""
    with _prepared_server() as (server, images):
        answers, single = measure_single_user(server.url, images)
        load = simulate_users(server, images, answers, sessions, seconds)
    numbers = {
        "machine": describe_machine(),
        "sessions": sessions,
        "seconds": seconds,
        "single_user_p50_s": single.percentile(50),
        **_summarize(load),
        "memory_growth": load.memory_growth,
    }
    breaches = _check_answers(load)
    if load.memory_growth > MAX_MEMORY_GROWTH:
        breaches.append(f"The memory grew by {load.memory_growth:.0%} in the second half.")
    return numbers, breaches


def measure_hostile(seconds: float) -> tuple[dict[str, Any], list[str]]:
    """Return the numbers of a quiet time and of an attack, and the broken limits."""
    refusals: list[str] = []
    with _prepared_server() as (server, images):
        answers, _ = measure_single_user(server.url, images)
        quiet = simulate_users(server, images, answers, QUIET_USERS, seconds / 2)
        with hostile_uploads(server.url, refusals):
            attacked = simulate_users(server, images, answers, QUIET_USERS, seconds, seed=1)
    slowdown = attacked.percentile(95) / quiet.percentile(95)
    numbers = {
        "machine": describe_machine(),
        "users": QUIET_USERS,
        "hostile_sessions": HOSTILE_SESSIONS,
        "quiet": _summarize(quiet),
        "attacked": _summarize(attacked),
        "slowdown_of_p95": slowdown,
        "attackers_without_answer": len(refusals),
    }
    breaches = _check_answers(quiet) + _check_answers(attacked)
    if (peak_mb := max(attacked.memory_mb)) > MAX_HOSTILE_MEMORY_MB:
        breaches.append(f"The server used {peak_mb:.0f} MB, more than {MAX_HOSTILE_MEMORY_MB} MB.")
    if not slowdown < MAX_SLOWDOWN:
        breaches.append(f"The p95 of other users is {slowdown:.1f} times the quiet one.")
    return numbers, breaches


@contextmanager
def _prepared_server() -> Iterator[tuple[AppServer, list[bytes]]]:
    images = [make_accepted_image(seed) for seed in SEEDS]
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server:
        yield server, images


def _summarize(load: Load) -> dict[str, Any]:
    return {
        "uploads": len(load.times_s),
        "images": load.n_images,
        "p50_s": load.percentile(50),
        "p95_s": load.percentile(95),
        "wrong": len(load.wrong),
        "errors": len(load.errors),
        # Ten values show whether the memory is flat.
        "memory_mb": [round(max(part)) for part in np.array_split(load.memory_mb, 10) if len(part)],
    }


def _check_answers(load: Load) -> list[str]:
    breaches = [f"wrong: {text[:500]}" for text in load.wrong[:3]]
    breaches += [f"error: {text}" for text in load.errors[:3]]
    return breaches if load.times_s else [*breaches, "There is no answer."]


@click.command()
@click.option("--sessions", type=click.IntRange(1, 64), default=SESSIONS, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 600), default=SECONDS, show_default=True)
@click.option("--hostile", is_flag=True, help="Attack the server, and measure other users.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(sessions: int, seconds: float, hostile: bool, as_json: bool) -> None:
    """Compare the answers to many users with those to a single user."""
    numbers, breaches = measure_hostile(seconds) if hostile else measure_load(sessions, seconds)
    if as_json:
        click.echo(json.dumps(numbers | {"breaches": breaches}, indent=2))
    else:
        for name, value in numbers.items():
            click.echo(f"{name.replace('_', ' ')}: {value}")
        for breach in breaches:
            click.echo(f"breach: {breach}")
    if breaches:
        sys.exit(1)


if __name__ == "__main__":
    main()
