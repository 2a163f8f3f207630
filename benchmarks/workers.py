"""A process that times what it is asked to, and is silent otherwise."""

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
    """Start a process for each factory; give a timer for each contestant in them.

    Parameters
    ----------
    folder : Path
        Handed to the factories.
    *factories : callable
        Defined in a module, since their process imports them anew.

    Yields
    ------
    dict from name to callable
        Calling it runs the contestant and returns its seconds.
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
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, folder, factory), daemon=True)
    process.start()
    there.close()  # so that a worker that dies is an EOFError here, and not a wait for ever
    try:
        yield {name: lambda name=name: _ask(here, name) for name in here.recv()}
    finally:
        here.close()
        process.join(30)
        process.kill()


def _ask(connection: Connection, name: str) -> float:
    connection.send(name)
    return connection.recv()


def _work(connection: Connection, folder: Path, factory: Factory) -> None:
    with silence_native_stderr():
        contestants = factory(folder)
    connection.send(list(contestants))
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        connection.send(time_once(contestants[name]))
