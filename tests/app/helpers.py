"""Helpers of the app tests: texts and tables of a page, archives, and fold files."""

import io
import zipfile
from pathlib import Path

import pandas as pd


def texts(elements) -> str:
    """Return the texts of elements without Markdown escapes, one per line."""
    return "\n".join(str(element.value) for element in elements).replace("\\", "")


def tables(app) -> list[pd.DataFrame]:
    """Return the tables of a page."""
    return [element.value for element in app.dataframe]


def probabilities(app) -> list[str]:
    """Return the estimated probabilities on the page Classify."""
    label = "Estimated probability of malignancy"
    return [metric.value for metric in app.metric if metric.label == label]


def press(app, label: str) -> None:
    """Press the first button with a label."""
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception


def zip_images(folder: Path) -> bytes:
    """Return a zip file with the images of a folder and a text file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder).as_posix())
        archive.writestr("README.txt", "not an image")
    return buffer.getvalue()


def fold_text(folder: Path, *, has_leakage: bool) -> bytes:
    """Return a fold file; with leakage, the first image of every case is for testing."""
    lines = []
    for path in sorted(folder.rglob("*.png")):
        for_test = (
            "-001" in path.name if has_leakage else path.name.split("-")[2] in ("90001", "90006")
        )
        lines.append(f"{path.name}|200|1|{'test' if for_test else 'train'}")
    return ("\n".join(lines) + "\n").encode()
