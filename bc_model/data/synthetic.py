"""Synthetic images in the layout of BreakHis, for tests, demonstrations and trial runs.

The images resemble H&E: benign ones contain glands with a ring of small nuclei, malignant ones
crowded, large, irregular nuclei. A model that is trained on them is not valid for tissue.
"""

import io
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bc_model.data.breakhis import FIRST_SYNTHETIC_CASE, SUBTYPES
from bc_model.data.disk_space import explain_write_errors, require_free_space
from bc_model.errors import ConfigError

_EOSIN = np.array([236.0, 178.0, 206.0])
_NUCLEUS = np.array([104.0, 70.0, 148.0])
_LUMEN = np.array([244.0, 240.0, 244.0])


def generate_image(
    *, malignant: bool, seed: int, case_seed: int = 0, size: tuple[int, int] = (460, 700)
) -> np.ndarray:
    """Return a synthetic image of shape (*size, 3), uint8, in RGB.

    Parameters
    ----------
    malignant : bool
        Class of the image.
    seed : int
        Random seed of the field: the positions of the nuclei.
    case_seed : int, default=0
        Random seed of the slide: the staining.
    size : (int, int), default=(460, 700)
        Height and width, px, at least 32.

    Examples
    --------
    >>> generate_image(malignant=True, seed=0, size=(46, 70)).shape
    (46, 70, 3)
    """
    height, width = size
    scale = height / 460
    rng = np.random.default_rng([seed, case_seed, int(malignant)])
    stain = np.random.default_rng([case_seed, 7])
    tint = stain.normal(0, 9, 3)
    image: np.ndarray = _generate_stroma(rng, height, width) + tint
    nucleus = np.clip(_NUCLEUS + tint + stain.normal(0, 8, 3), 20, 200)
    if malignant:
        centers = rng.uniform((0, 0), (width, height), (round(170 * rng.uniform(0.8, 1.2)), 2))
        radii = rng.uniform(9, 17, len(centers)) * scale
    else:
        centers, radii = _draw_glands(rng, image, height, width, scale)
    for (x_px, y_px), radius_px in zip(centers, radii, strict=True):
        _draw_nucleus(rng, image, x_px, y_px, radius_px, nucleus, irregular=malignant)
    image = cv2.GaussianBlur(image, (0, 0), max(0.6, 1.1 * scale))
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def generate_lesion(
    *, seed: int, case_seed: int = 0, size: tuple[int, int] = (460, 700)
) -> tuple[np.ndarray, np.ndarray]:
    """Return a benign image with a malignant region, and the mask of the region.

    The region is an ellipse with soft edges, entirely in the image. Its area is 6 to 20 % of that
    of the image. Both tissues have the staining of the same slide.

    Parameters
    ----------
    seed, case_seed, size
        As for `generate_image`.

    Returns
    -------
    image : ndarray of shape (*size, 3), uint8
    mask : ndarray of shape size, bool
        True in the malignant region.

    Examples
    --------
    >>> image, mask = generate_lesion(seed=0, size=(92, 140))
    >>> image.shape, mask.shape, bool(0.05 < mask.mean() < 0.21)
    ((92, 140, 3), (92, 140), True)
    """
    height, width = size
    benign, malignant = (
        generate_image(malignant=label, seed=seed, case_seed=case_seed, size=size)
        for label in (False, True)
    )
    rng = np.random.default_rng([seed, case_seed, 11])
    area, aspect = rng.uniform(0.06, 0.2), rng.uniform(0.8, 1.25)
    semi_x = np.sqrt(area * height * width / np.pi * aspect)
    semi_y = semi_x / aspect
    x_px = rng.uniform(semi_x, width - semi_x)
    y_px = rng.uniform(semi_y, height - semi_y)
    rows, columns = np.mgrid[:height, :width]
    mask = ((columns - x_px) / semi_x) ** 2 + ((rows - y_px) / semi_y) ** 2 <= 1.0
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(0.5, 4 * height / 460))[..., None]
    mixed = benign * (1 - alpha) + malignant * alpha
    return np.rint(mixed).astype(np.uint8), mask


def generate_dataset(
    folder: Path,
    *,
    n_cases: int = 12,
    images_per_case: int = 6,
    size: tuple[int, int] = (460, 700),
    magnifications: tuple[int, ...] = (200,),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a synthetic dataset and return the number of its images.

    Parameters
    ----------
    folder : Path
        Folder to create, or an empty folder.
    n_cases, images_per_case : int
        Number of cases, at least 2, half of them benign, and of images per case and magnification.
    size, magnifications, seed
        Height and width of the images, px, at least 32; magnifications in the names; random seed.
    progress : callable, optional
        Called with the number of finished images and of all images.

    Raises
    ------
    ConfigError
        The folder is not empty, or a number is out of range.
    DataError
        The disk is full, or the folder cannot be written. Nothing is left.
    """
    if n_cases < 2 or images_per_case < 1 or min(size) < 32:
        raise ConfigError(
            "Invalid synthetic dataset. Expected at least 2 cases, 1 image per case and 32 px per "
            f"side, got {n_cases}, {images_per_case} and {min(size)}. Increase these numbers."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder. Choose a new folder.")
    n_images = n_cases * len(magnifications) * images_per_case
    # Noise hardly compresses.
    require_free_space(folder, n_images * size[0] * size[1] * 3, "Generating the dataset")
    staging = folder.parent / f".{secrets.token_hex(4)}.tmp"
    try:
        with explain_write_errors("Generating the dataset", folder.parent):
            for n_written, (name, rgb) in enumerate(
                _generate_images(n_cases, images_per_case, size, magnifications, seed), start=1
            ):
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rgb).save(staging / name)
                if progress:
                    progress(n_written, n_images)
            if folder.exists():
                folder.rmdir()  # Windows does not replace a folder.
            staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return n_images


def _generate_images(
    n_cases: int,
    images_per_case: int,
    size: tuple[int, int],
    magnifications: tuple[int, ...],
    seed: int,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield path and pixels of each image."""
    codes = list(SUBTYPES)
    for number in range(n_cases):
        malignant = number >= n_cases // 2
        code = codes[4 + number % 4] if malignant else codes[number % 4]
        label = "M" if malignant else "B"
        slide = FIRST_SYNTHETIC_CASE + number
        class_folder = "malignant" if malignant else "benign"
        for magnification in magnifications:
            parent = (
                f"histology_slides/breast/{class_folder}/SOB/{SUBTYPES[code]}/"
                f"SOB_{label}_{code}_14-{slide}/{magnification}X"
            )
            for sequence in range(1, images_per_case + 1):
                rgb = generate_image(
                    malignant=malignant,
                    seed=seed * 1_000_003 + magnification * 101 + sequence,
                    case_seed=seed * 1_000_003 + slide,
                    size=size,
                )
                name = f"SOB_{label}_{code}-14-{slide}-{magnification}-{sequence:03d}.png"
                yield f"{parent}/{name}", rgb


def example_png(*, malignant: bool) -> bytes:
    """Return a fixed synthetic image of the official size as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(generate_image(malignant=malignant, seed=2, case_seed=5)).save(buffer, "PNG")
    return buffer.getvalue()


def _generate_stroma(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a pink background with soft fibers: noise that is blurred along one direction."""
    noise = rng.normal(0, 1, (height, width, 1)).astype(np.float32)
    fibers = cv2.GaussianBlur(
        noise, (0, 0), sigmaX=max(height / 20, 1), sigmaY=max(height / 150, 1)
    )
    strength = fibers / (np.abs(fibers).max() + 1e-6)
    return _EOSIN + strength[..., None] * np.array([10.0, 26.0, 16.0])


def _draw_glands(
    rng: np.random.Generator, image: np.ndarray, height: int, width: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw lumina, and return the centers and radii of the nuclei around and between them."""
    centers = [rng.uniform((0, 0), (width, height), (25, 2))]
    for _ in range(rng.integers(5, 9)):
        x_px, y_px = rng.uniform((0, 0), (width, height))
        axes = rng.uniform(28, 58, 2) * scale
        angle = rng.uniform(0, 180)
        cv2.ellipse(
            image, (round(x_px), round(y_px)), (max(1, round(axes[0])), max(1, round(axes[1]))),
            angle, 0, 360, _LUMEN.tolist(), -1, cv2.LINE_AA,
        )  # fmt: skip
        turn = np.deg2rad(angle)
        angles = np.linspace(0, 2 * np.pi, 26, endpoint=False) + rng.normal(0, 0.05, 26)
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (axes + 8 * scale)
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        centers.append(ring @ rotation + (x_px, y_px))
    points = np.concatenate(centers)
    return points, rng.uniform(4.5, 7.0, len(points)) * scale


def _draw_nucleus(
    rng: np.random.Generator,
    image: np.ndarray,
    x_px: float,
    y_px: float,
    radius_px: float,
    color: np.ndarray,
    *,
    irregular: bool,
) -> None:
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    wobble = 1 + rng.normal(0, 0.16 if irregular else 0.05, angles.shape)
    stretch = rng.uniform(0.65, 1.0)
    outline = np.stack(
        [np.cos(angles) * radius_px, np.sin(angles) * radius_px * stretch], axis=1
    ) * wobble[:, None] + (x_px, y_px)
    shade = color + rng.normal(0, 14 if irregular else 6)
    cv2.fillPoly(image, [np.round(outline).astype(np.int32)], shade.tolist(), cv2.LINE_AA)
