"""What the tests of the Data page share."""

import io
import zipfile
from pathlib import Path

import pandas as pd


def texts(elements) -> str:
    return "\n".join(str(element.value) for element in elements).replace("\\", "")


def tables(app) -> list[pd.DataFrame]:
    return [element.value for element in app.dataframe]


def press(app, label: str):
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder).as_posix())
        archive.writestr("README.txt", "no picture")
    return buffer.getvalue()


def fold_text(folder: Path, *, has_leakage: bool) -> bytes:
    """Write a fold file of the drawn set; leaky, the first field of every case is for test."""
    lines = []
    for path in sorted(folder.rglob("*.png")):
        for_test = (
            "-001" in path.name if has_leakage else path.name.split("-")[2] in ("90001", "90006")
        )
        lines.append(f"{path.name}|200|1|{'test' if for_test else 'train'}")
    return ("\n".join(lines) + "\n").encode()
