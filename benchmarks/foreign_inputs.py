"""Images that a classifier of H&E-stained tissue must not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from bc_model.data import (
    DeclaredScale,
    blur,
    fluorescence_like,
    ihc_like,
    list_image_files,
    parse_name,
    read_image,
    scale_of_frame,
)

FRAME = (460, 700)
SCREENSHOTS = Path(__file__).parents[1] / "docs"


class ForeignInput(NamedTuple):
    """An image with its kind, the scale that a user declares for it, and its case, if any."""

    kind: str
    image: np.ndarray
    scale: DeclaredScale
    case: str = ""


class RealFrame(NamedTuple):
    """A BreakHis frame at its original size."""

    image: np.ndarray
    case: str
    magnification: int


def read_frames(root: Path, magnifications: tuple[int, ...]) -> list[RealFrame]:
    """Return the full-size frames below a directory at some magnifications, sorted by name."""
    frames = []
    for folder in ("breakhis_100x", "breakhis_originals", "breakhis_originals_more"):
        for path in list_image_files(root / folder):
            parsed = parse_name(path.name)
            if parsed and parsed.magnification in magnifications:
                frames.append(RealFrame(read_image(path), parsed.case, parsed.magnification))
    return frames


def make_foreign_inputs(root: Path, seed: int = 0) -> Iterator[ForeignInput]:
    """Yield 300 inputs that must not be answered.

    Parameters
    ----------
    root : Path
        Directory with real images, from which recolored, blurred and wrongly scaled ones are made.
    seed : int
        Of crops, noise and selections.
    """
    rng = np.random.default_rng(seed)
    served = read_frames(root, (100, 200))
    as_frame = [scale_of_frame(m, FRAME[1]) for m in (100, 200)]
    for kind, images in (
        ("photograph or drawing", _photographs(rng, 60)),
        ("screenshot", _screenshots(rng, 25)),
        ("noise", _noise(rng, 20)),
        ("flat color", _flat_colors(rng, 20)),
        ("empty glass", _empty_glass(rng, 10)),
    ):
        for i, image in enumerate(images):
            yield ForeignInput(kind, image, as_frame[i % 2])
    chosen = iter(rng.permutation(len(served)).tolist())
    changes = (
        ("IHC-like", 40, lambda image: ihc_like(image, rng.uniform(0.8, 1.5))),
        ("fluorescence-like", 25, fluorescence_like),
        ("blur of 6 px and more", 40, lambda image: blur(image, rng.uniform(6.0, 12.0))),
        ("black surround", 20, _surround),
    )
    for kind, count, change in changes:
        for _ in range(count):
            frame = served[next(chosen)]
            scale = scale_of_frame(frame.magnification, FRAME[1])
            yield ForeignInput(kind, change(frame.image), scale, frame.case)
    yield from _wrong_scales(root, served, rng, 20)


def _wrong_scales(
    root: Path, served: list[RealFrame], rng: np.random.Generator, count: int
) -> Iterator[ForeignInput]:
    """Yield images at a quarter and at four times the declared µm per pixel."""
    declared = scale_of_frame(100, FRAME[1])
    finer = read_frames(root, (400,))
    for i in rng.permutation(len(finer))[:count]:
        yield ForeignInput("4 times finer than declared", finer[i].image, declared, finer[i].case)
    by_case: dict[str, list[np.ndarray]] = {}
    for frame in served:
        if frame.magnification == 100 and frame.image.shape[:2] == FRAME:
            by_case.setdefault(frame.case, []).append(frame.image)
    cases = [case for case, images in by_case.items() if len(images) >= 8]
    for i in range(count):
        case = cases[i % len(cases)]
        images = by_case[case]
        picks = rng.permutation(np.resize(np.arange(len(images)), 16))
        rows = [np.hstack([images[j] for j in picks[row * 4 : row * 4 + 4]]) for row in range(4)]
        small = cv2.resize(np.vstack(rows), FRAME[::-1], interpolation=cv2.INTER_AREA)
        yield ForeignInput("4 times coarser than declared", small, declared, case)


def _photographs(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    from skimage import data as scikit_image_data
    from sklearn.datasets import load_sample_images

    folder = Path(scikit_image_data.__file__).parent
    files = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".jpg"})
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in files]
    images += list(load_sample_images().images)
    return [_crop(rng, images[i % len(images)], whole=i < len(images)) for i in range(count)]


def _screenshots(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    files = sorted(SCREENSHOTS.glob("*.png"))
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in files]
    return [_crop(rng, images[i % len(images)], whole=i < len(images)) for i in range(count)]


def _crop(rng: np.random.Generator, image: np.ndarray, *, whole: bool) -> np.ndarray:
    """Return the whole image or a random half of each side, at the size of a frame."""
    if not whole:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        y0, x0 = int(rng.integers(height + 1)), int(rng.integers(width + 1))
        image = image[y0 : y0 + height, x0 : x0 + width]
    return cv2.resize(np.ascontiguousarray(image), FRAME[::-1], interpolation=cv2.INTER_AREA)


def _noise(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    images = []
    for i in range(count):
        image = rng.integers(0, 256, (*FRAME, 3)).astype(np.uint8)
        if i % 2:  # Smooth noise in the colors of H&E resembles tissue more.
            field = cv2.GaussianBlur(rng.standard_normal((*FRAME, 1)), (0, 0), 2.0 + i)[..., None]
            field = (field - field.min()) / np.ptp(field)
            pink, purple = np.array([235.0, 190.0, 215.0]), np.array([110.0, 60.0, 130.0])
            image = (field * pink + (1 - field) * purple).astype(np.uint8)
        images.append(image)
    return images


def _flat_colors(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    images = []
    for i in range(count):
        image = np.full((*FRAME, 3), rng.integers(0, 256, 3), np.uint8)
        if i % 2:
            for _ in range(6):
                corner = rng.integers(0, 400, 2)
                color = tuple(int(value) for value in rng.integers(0, 256, 3))
                image = cv2.rectangle(image, corner, corner + rng.integers(20, 300, 2), color, -1)
        images.append(image)
    return images


def _empty_glass(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    return [
        np.clip(rng.normal(rng.uniform(225, 248), 2.0, (*FRAME, 3)), 0, 255).astype(np.uint8)
        for _ in range(count)
    ]


def _surround(image: np.ndarray) -> np.ndarray:
    """Return an image in a round black aperture, as through an eyepiece."""
    height, width = image.shape[:2]
    mask = cv2.circle(
        np.zeros((height, width), np.uint8), (width // 2, height // 2), height // 2, 1, -1
    )
    return image * mask[..., None]
