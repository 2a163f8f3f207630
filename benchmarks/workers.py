"""Worker processes that time functions on request."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bc_model.utils import silence_native_stderr
from benchmarks.timing import time_once

Factory = Callable[[Path], dict[str, Callable[[], Any]]]


@contextmanager
def workers(folder: Path, *factories: Factory) -> Iterator[dict[str, Callable[[], float]]]:
    """Start a process for each factory and yield a timer for each of its functions.

    Parameters
    ----------
    folder : Path
        Folder with the prepared files, passed to the factories.
    *factories : callable
        Importable functions, because the new process imports them.

    Yields
    ------
    dict of str to callable
        A call runs the function and returns its duration in seconds.
    """
    with ExitStack() as stack:
        yield {
            name: timer
            for factory in factories
            for name, timer in stack.enter_context(_worker(folder, factory)).items()
        }


@contextmanager
def _worker(folder: Path, factory: Factory) -> Iterator[dict[str, Callable[[], float]]]:
    context = multiprocessing.get_context("spawn")
    connection, child_end = context.Pipe()
    process = context.Process(target=_serve_timings, args=(child_end, folder, factory), daemon=True)
    process.start()
    child_end.close()  # A worker that dies then causes an EOFError instead of an endless wait.
    try:
        yield {
            name: lambda name=name: _time_in_worker(connection, name) for name in connection.recv()
        }
    finally:
        connection.close()
        process.join(30)
        process.kill()


def _time_in_worker(connection: Connection, name: str) -> float:
    connection.send(name)
    return connection.recv()


def _serve_timings(connection: Connection, folder: Path, factory: Factory) -> None:
    with silence_native_stderr():
        functions = factory(folder)
    connection.send(list(functions))
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        connection.send(time_once(functions[name]))
