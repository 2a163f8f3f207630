"""Keep native libraries from writing on a person's terminal."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """Send what C++ code writes to stderr nowhere, for the length of a block.

    TensorFlow prints notes about the processor while it is imported, before any of its own log
    settings take hold. Python's exceptions are not affected: they are raised, not written.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
