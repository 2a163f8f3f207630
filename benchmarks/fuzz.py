"""Mutated files at every intake: ``python -m benchmarks.fuzz [--cases N] [--seed S]``.

Each case mutates a valid file, and passes it to a reader and its consumers. They accept it, or
raise an error of the project. Any other exception, a warning, output to stderr, a file left behind,
or a case beyond the limits of time and memory is a breach, and ends the program with exit code 1.
Repeat one case with ``--intake NAME --seed S --first NUMBER --cases 1``.
"""

from __future__ import annotations

import multiprocessing
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import click

from bc_model.errors import BcModelError
from bc_model.utils import silence_native_stderr
from benchmarks.intakes import INTAKES, Files, Intake
from benchmarks.peak_memory import measured_memory

CASES = 10_000
MAX_CPU_S = 3.0
MAX_WALL_S = 60
"""After this time, a case is interrupted. The limit is high, as other processes slow it down."""
MAX_MEMORY_MB = 300
MAX_BREACHES = 5
"""An intake with more breaches is abandoned."""

_TEMPORARY = re.compile(r"(^|/)(\.(add|del|new|deleted|export)-|upload$|[^/]*\.tmp$)")
"""Staging folders of datasets, jobs and models, and files that are being written."""


class CaseTimeoutError(BaseException):
    """A case takes too long. It is no Exception, so that no reader handles it."""


@dataclass
class Result:
    """The outcome of the cases of one intake.

    Attributes
    ----------
    refused : Counter
        Number of refused cases by class of the error.
    breaches : list of str
        Each broken rule, with the number of the case.
    slowest_s, memory_mb : float
        Processor time of the slowest case, and memory of the largest one.
    """

    intake: str
    n_cases: int = 0
    n_accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    memory_mb: float = 0.0


def fuzz_intake(intake: Intake, cases: range, seed: int, folder: Path) -> Result:
    """Run cases of an intake in an empty folder.

    A case depends only on its number, the seed, and the name of the intake.
    """
    (folder / "seeds").mkdir(parents=True)
    seeds = intake.make_seeds(folder / "seeds")
    result = Result(intake.name)
    with silence_native_stderr(), _temporary_files(folder / "tmp"):
        valid = Result(intake.name)
        problems = [text for files in seeds for text in run_case(intake, files, folder, valid)]
        if problems or not valid.n_accepted:
            raise AssertionError(f"Files without mutations of {intake.name} fail: {problems}")
        for number in cases:
            rng = random.Random(f"{seed}-{intake.name}-{number}")
            problems = run_case(intake, intake.mutate(rng, seeds), folder, result)
            result.breaches += [f"--seed {seed} --first {number}: {text}" for text in problems]
            if len(result.breaches) > MAX_BREACHES:
                break
    return result


def run_case(intake: Intake, files: Files, folder: Path, result: Result) -> list[str]:
    """Read one set of files, count the outcome, and return the broken rules."""
    case = folder / "case"
    for path, content in files.items():
        (case / path).parent.mkdir(parents=True, exist_ok=True)
        (case / path).write_bytes(content)
    before, is_refused, problems = _list_files(case), False, []
    start_s = time.process_time()
    with (
        warnings.catch_warnings(record=True) as caught,
        measured_memory() as memory,
        _interrupted_after(MAX_WALL_S),
    ):
        # At the end, so that filters of the library apply first.
        warnings.simplefilter("always", append=True)
        try:
            intake.read(case)
            result.n_accepted += 1
        except BcModelError as error:
            is_refused = True
            result.refused[type(error).__name__] += 1
        except (Exception, CaseTimeoutError) as error:
            problems.append(_describe(error))
    duration_s = time.process_time() - start_s
    problems += [f"warning: {warning.message}" for warning in caught]
    if duration_s > MAX_CPU_S:
        problems.append(f"{duration_s:.1f} s of processor time")
    if memory.growth_mb > MAX_MEMORY_MB:
        problems.append(f"{memory.growth_mb:.0f} MB of memory")
    added = _list_files(case) - before
    if left := {path for path in added if is_refused or _TEMPORARY.search(path)}:
        problems.append(f"files left behind: {sorted(left)[:3]}")
    if any(path.is_symlink() for path in case.rglob("*")):
        problems.append("a symbolic link was created")
    if left := _list_files(folder / "tmp"):
        problems.append(f"temporary files left behind: {sorted(left)[:3]}")
    shutil.rmtree(case)
    result.n_cases += 1
    result.slowest_s = max(result.slowest_s, duration_s)
    result.memory_mb = max(result.memory_mb, memory.growth_mb)
    return problems


def _list_files(folder: Path) -> set[str]:
    """Return the paths of the files in a folder, without locks."""
    files = (path for path in folder.rglob("*") if not path.is_dir() and path.name != ".lock")
    return {path.relative_to(folder).as_posix() for path in files}


def _describe(error: BaseException) -> str:
    """Return an exception with the last line of the project that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if "site-packages" not in f.filename and "/lib/python" not in f.filename
    ]
    where = f" in {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {str(error)[:150]}{where}"


@contextmanager
def _interrupted_after(seconds: int) -> Iterator[None]:
    """Raise CaseTimeoutError in the block after some seconds."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise CaseTimeoutError(f"interrupted after {seconds} s")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def _temporary_files(folder: Path) -> Iterator[None]:
    """Create temporary files in a folder."""
    folder.mkdir()
    previous, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = previous


def _fuzz_in_process(name: str, first: int, n_cases: int, seed: int) -> Result:
    (intake,) = (intake for intake in INTAKES if intake.name == name)
    with tempfile.TemporaryDirectory() as folder:
        return fuzz_intake(intake, range(first, first + n_cases), seed, Path(folder) / name)


def _format_row(result: Result) -> str:
    refused = ", ".join(f"{name} {count}" for name, count in result.refused.most_common())
    return (
        f"{result.intake:<12}{result.n_cases:>8}{result.n_accepted:>10}{len(result.breaches):>10}"
        f"{result.slowest_s:>10.2f} s{result.memory_mb:>8.0f} MB  {refused}"
    )


@click.command()
@click.option(
    "--cases", default=CASES, show_default=True,
    help="Total number of cases, divided equally among the intakes.",
)  # fmt: skip
@click.option("--first", default=0, show_default=True, help="Number of the first case.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--intake", "names", multiple=True, type=click.Choice([intake.name for intake in INTAKES]),
    help="Only this intake; may be repeated.",
)  # fmt: skip
def main(cases: int, first: int, seed: int, names: tuple[str, ...]) -> None:
    """Pass mutated files to every intake, and count the outcomes."""
    click.echo("intake         cases  accepted  breaches     slowest     memory  refused")
    results = []
    chosen = names or [intake.name for intake in INTAKES]
    n_cases = -(-cases // len(chosen))
    for name in chosen:
        # A process for each intake: its memory is measured, and a crash ends only this intake.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                result = pool.submit(_fuzz_in_process, name, first, n_cases, seed).result()
            except BrokenProcessPool:
                result = Result(name, breaches=["the process crashed"])
        results.append(result)
        click.echo(_format_row(result))
    for result in results:
        for breach in result.breaches:
            click.echo(f"{result.intake} {breach}", err=True)
    if any(result.breaches for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
