"""From a trained Keras model to a bundle on disk: the one part of serving with TensorFlow."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bc_model.model import head_matrices, last_conv_output
from bc_model.serving.bundle import KERAS_FILE, SERVED_FILES, Bundle, file_sha256
from bc_model.serving.head import Head
from bc_model.serving.passport import write_passport

if TYPE_CHECKING:
    import keras


def write_bundle(model: keras.Model, folder: Path, passport: dict[str, Any]) -> Bundle:
    """Write a bundle: beside its place first, then moved there in one step.

    Parameters
    ----------
    model : keras.Model
        As `bc_model.model.build_model` builds it, trained, with a fixed input size.
    folder : Path
        Replaced when it exists.
    passport : dict
        Complete but for `files`, which is filled in here.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        The passport does not fit its schema.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model.save(draft / KERAS_FILE, include_optimizer=False)
        _export_graph(model, draft / "served.xml")
        kernels, biases = zip(*head_matrices(model), strict=True)
        Head(kernels, biases).save(draft / "head.npz")
        files = {name: file_sha256(draft / name) for name in (KERAS_FILE, *SERVED_FILES)}
        complete = passport | {"files": files}
        write_passport(draft, complete)
        draft.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Bundle(folder, complete)


def _export_graph(model: keras.Model, path: Path) -> None:
    import keras

    served = keras.Model(
        model.inputs[0], [last_conv_output(model), model.get_layer("pool").output], name="served"
    )
    served.export(str(path), format="openvino", verbose=False)
