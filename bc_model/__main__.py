"""``python -m bc_model``: everything the app can do, from a terminal."""

import logging
import os
import sys
from contextlib import suppress

from bc_model.cli import main


def leave(code: int) -> None:
    """End the process without the interpreter's own farewell.

    In it TensorFlow's input pipelines are waited for, while they may be waiting for the
    interpreter: a cancelled run then never ended.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


try:
    main()
except SystemExit as end:
    if "tensorflow" not in sys.modules:
        raise
    leave(int(end.code or 0))
