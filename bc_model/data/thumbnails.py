"""Small JPEGs of pictures for a gallery, kept by the hash of the pixels they show."""

import io
import re
from pathlib import Path

from PIL import Image

from bc_model.data.pictures import read_picture
from bc_model.files import write_bytes_atomic

QUALITY = 85


def thumbnail(path: Path, sha256: str, *, side_px: int = 192, cache: Path | None = None) -> bytes:
    """Return a picture as a JPEG that fits a square.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of its pixels, as a manifest says. A thumbnail that is kept under it is returned without
        reading the picture.
    side_px : int
        Of the square, 16 to 1024; the picture keeps its shape and is never enlarged.
    cache : Path, optional
        Where thumbnails are kept.

    Returns
    -------
    bytes

    Raises
    ------
    PictureError
        The picture cannot be read any more.
    ValueError
        `sha256` or `side_px` is none.
    """
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not 16 <= side_px <= 1024:
        raise ValueError(f"no thumbnail of {sha256!r} at {side_px} px")
    kept = cache / f"thumbnails-{side_px}" / sha256[:2] / f"{sha256}.jpg" if cache else None
    if kept and kept.is_file():
        try:
            return kept.read_bytes()
        except OSError:
            pass  # deleted meanwhile: it is made again
    image = Image.fromarray(read_picture(path))
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    if kept:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(kept, buffer.getvalue())
        except OSError:
            pass  # a disk that is full or read-only costs speed alone
    return buffer.getvalue()
