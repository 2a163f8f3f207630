"""The command line, started with ``python -m bc_model`` or ``breast-histology``."""

import logging
import os
import sys
from contextlib import suppress

from bc_model.cli import main


def leave(code: int) -> None:
    """End the process without the interpreter's shutdown.

    The shutdown joins TensorFlow's input pipelines, which may be waiting for the interpreter, so a
    canceled run would never end.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader has closed it
            stream.flush()
    os._exit(code)


def run() -> None:
    """Run the command line; the console script ``breast-histology`` starts here."""
    try:
        main()
    except SystemExit as end:
        if "tensorflow" not in sys.modules:
            raise
        leave(int(end.code or 0))


if __name__ == "__main__":
    run()
