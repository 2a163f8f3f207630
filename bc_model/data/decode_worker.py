"""Process of `DecodePool` that decodes images, one after the other, until its input ends.

The argument is the niceness of the process.
A request is a JSON header ``{"name", "n_bytes", "cpu_s"}`` and the content of a file. The answer is
``{"width_px", "height_px"}`` and the RGB values, or ``{"message", "reason"}``. JSON is preceded by
its length. An unexpected error ends the process, so that the parent never takes another answer for
the rest of the pixels. CPU time and memory are limited for each image by the operating system,
which also ends code inside a codec.
"""

import io
import json
import os
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

# The process has its limits from the beginning only if nothing is loaded later.
from PIL import JpegImagePlugin, PngImagePlugin, TiffImagePlugin  # noqa: F401

from bc_model.data.image_decoder import ImageDecoder
from bc_model.data.image_headers import MAX_BAND_PIXELS, ImageHeader, read_header
from bc_model.errors import ImageError

SPARE_BYTES = 64 * 2**20
"""Memory for one image besides its content, its pixels and the buffers that its header declares."""

BANDS_BYTES = 12 * MAX_BAND_PIXELS
"""Memory for a band of an image that is read at half of its resolution: in its codec, as decoded
and as converted."""

_FAILED_STATUS = 70
"""Exit status after an unexpected error while an image is decoded."""

LENGTH = struct.Struct(">I")


def write_message(stream: BinaryIO | io.FileIO, message: dict[str, Any]) -> None:
    """Write a JSON header."""
    content = json.dumps(message).encode()
    stream.write(LENGTH.pack(len(content)) + content)


def main() -> None:
    """Answer requests on standard input until it ends, as it does when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent.
    if hasattr(os, "nice"):  # Not on Windows.
        os.nice(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # A library that prints cannot damage the answers.
    requests = sys.stdin.buffer
    while len(prefix := requests.read(LENGTH.size)) == LENGTH.size:
        request = json.loads(requests.read(*LENGTH.unpack(prefix)))
        content = [requests.read(request["n_bytes"])]
        _limit_cpu(request["cpu_s"])
        try:
            _answer(answers, content, request["name"])
        except Exception:
            os._exit(_FAILED_STATUS)
        answers.flush()
        _limit_cpu(0.0)
        _limit_memory(None)


def _answer(answers: BinaryIO, content: list[bytes], name: str) -> None:
    """Answer a request; `content` is emptied, because the header has the part that is needed."""
    try:
        header = read_header(content[0], name)
        content.clear()
        if header.bits > 8:
            # They convert 16 bits, and cannot be loaded under the limit of the memory.
            import cv2  # noqa: F401
            import numpy as np  # noqa: F401
        _limit_memory(_needed_bytes(header))
        decoder = ImageDecoder(header, name)
    except ImageError as error:
        write_message(answers, {"message": str(error), "reason": error.reason})
        return
    except MemoryError:
        message = f"{name} needs too much memory. Save a smaller field of view."
        write_message(answers, {"message": message, "reason": "too large"})
        return
    write_message(answers, {"width_px": decoder.width_px, "height_px": decoder.height_px})
    for strip in decoder.strips():
        answers.write(strip)


def _needed_bytes(header: ImageHeader) -> int:
    width_px, height_px = header.decoded_size
    n_images = 1 if header.orientation == 1 else 2
    pixels = 4 * n_images * width_px * height_px
    codec_bytes = max(header.codec_bytes, BANDS_BYTES if header.reduction > 1 else 0)
    return pixels + codec_bytes + len(header.content) + SPARE_BYTES


def _limit_cpu(seconds: float) -> None:
    """End this process after some seconds of CPU time; 0 removes the limit."""
    if hasattr(signal, "ITIMER_PROF"):  # Not on Windows, where the parent limits the elapsed time.
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory(n_bytes: int | None) -> None:
    """Let this process allocate at most `n_bytes` more; None removes the limit."""
    with suppress(OSError, ImportError):  # Linux only.
        import resource

        n_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        soft = hard if n_bytes is None else n_pages * resource.getpagesize() + n_bytes
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    main()
