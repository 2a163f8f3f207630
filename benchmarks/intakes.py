"""Everything that the program reads from outside: valid files, mutations, and their consumers.

The consumers are the functions of the library and the charts of the app that use what a reader
accepted, because a value may pass the reader and fail on the page.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image

from app.components.charts import (
    chart_confusion,
    chart_groups,
    chart_learning_curve,
    chart_learning_rate,
    chart_precision_recall,
    chart_reliability,
    chart_roc,
    chart_runs,
)
from bc_model.data import (
    PROTOCOLS_WITH_LEAKAGE,
    add_archive,
    count_leakage,
    decode_image,
    generate_dataset,
    generate_image,
    list_datasets,
    list_downloads,
    list_fold_files,
    load_dataset,
    make_split,
    preprocess_image,
    read_fold_file,
    read_scale,
    store_fold_contents,
    summarize_subsets,
    write_split,
)
from bc_model.errors import BcModelError
from bc_model.evaluation import EvaluationReport, case_table, evaluate_predictions, read_report
from bc_model.experiments import (
    check_selection,
    compare_configs,
    compare_protocols,
    list_experiments,
    plan_experiment,
    read_experiment,
    run_states,
    start_experiment,
    summarize_experiment,
)
from bc_model.inference import (
    Bundle,
    Head,
    bundled_model_dir,
    file_sha256,
    find_seen_images,
    list_bundles,
    open_bundle,
)
from bc_model.jobs import Job, JobSpec, advance_queue, cancel_job, delete_job, queue_job
from bc_model.reporting import METRIC_LABELS, card_to_markdown, metric_notes, subgroup_metrics
from bc_model.training import Run, RunImages, TrainingConfig, list_runs, read_resumable_config
from bc_model.utils import dumps, format_duration, open_weights, to_json
from benchmarks.model_card import dummy_model_card
from benchmarks.mutations import (
    mutate_bytes,
    mutate_jpeg,
    mutate_json,
    mutate_json_lines,
    mutate_png,
    mutate_stored_zip,
    mutate_table,
    mutate_tar_gz,
    mutate_tiff,
    mutate_zip,
)

Files = dict[str, bytes]
"""Contents by path, relative to the folder of the case."""


@dataclass(frozen=True)
class Intake:
    """One kind of input.

    Attributes
    ----------
    name : str
        Name in tables and on the command line.
    make_seeds : callable
        Returns sets of valid files. The argument is an empty folder for temporary files.
    read : callable
        Reads the files in a folder, and uses the result.
    mutated : tuple of str
        Suffixes of the files to mutate. The other files of a set are unchanged.
    """

    name: str
    make_seeds: Callable[[Path], list[Files]]
    read: Callable[[Path], object]
    mutated: tuple[str, ...]

    def mutate(self, rng: random.Random, seeds: Sequence[Files]) -> Files:
        """Return one set of files with one mutated file."""
        files = rng.choice(seeds)
        path = rng.choice([path for path in files if path.endswith(self.mutated)])
        donors = [seed[path] for seed in seeds if path in seed]
        return files | {path: _mutate(rng, path, files[path], donors)}


def _mutate(rng: random.Random, path: str, data: bytes, donors: Sequence[bytes]) -> bytes:
    match Path(path).suffix:
        case ".png":
            return mutate_png(rng, data, donors)
        case ".jpg":
            return mutate_jpeg(rng, data, donors)
        case ".tif":
            return mutate_tiff(rng, data, donors)
        case ".zip":
            return mutate_zip(rng, data, donors)
        case ".npz" | ".keras":
            return mutate_stored_zip(rng, data, donors)
        case ".h5":
            return mutate_bytes(rng, data, donors)
        case ".gz":
            return mutate_tar_gz(rng, data, donors)
        case ".jsonl":
            return mutate_json_lines(rng, data)
        case ".csv":
            return mutate_table(rng, data, b",")
        case ".txt":
            return mutate_table(rng, data, b"|")
    return mutate_json(rng, data)


# Images and archives.


def _encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _example_image() -> Image.Image:
    return Image.fromarray(generate_image(malignant=True, seed=0, case_seed=0, size=(40, 56)))


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # Rotated by 90 degrees.
    return exif


def _png_seeds(folder: Path) -> list[Files]:
    image = _example_image()
    modes = ("RGB", "L", "P", "RGBA", "LA", "1")
    contents = [_encode(image.convert(mode), "PNG") for mode in modes]
    contents.append(_encode(image, "PNG", exif=_exif(), dpi=(300, 300), icc_profile=bytes(500)))
    return [{"image.png": content} for content in contents]


def _jpeg_seeds(folder: Path) -> list[Files]:
    image = _example_image()
    contents = [
        _encode(image, "JPEG", exif=_exif()),
        _encode(image, "JPEG", progressive=True),
        _encode(image, "JPEG", restart_marker_rows=1, subsampling=2),
        _encode(image.convert("L"), "JPEG"),
        _encode(image.convert("CMYK"), "JPEG"),
        _encode(image, "MPO", save_all=True, append_images=[image]),
    ]
    return [{"image.jpg": content} for content in contents]


def _tiff_seeds(folder: Path) -> list[Files]:
    image = _example_image()
    methods = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    contents = [_encode(image, "TIFF", compression=method) for method in methods]
    modes = ("L", "P", "RGBA", "CMYK", "LAB", "F", "I;16")
    contents += [_encode(image.convert("L" if "I" in m else m).convert(m), "TIFF") for m in modes]
    contents.append(_encode(image.convert("1"), "TIFF", compression="group4"))
    contents.append(_encode(image, "TIFF", save_all=True, append_images=[image]))
    return [{"image.tif": content} for content in contents]


def _read_image(folder: Path) -> None:
    (path,) = folder.iterdir()
    content = path.read_bytes()
    read_scale(content)  # It ignores damage, and the app calls it for every image.
    preprocess_image(decode_image(content, path.name), (32, 32))


def _archived_images() -> Files:
    """Return a few small images of both classes, with paths in an archive."""
    image = _example_image()
    return {
        "set/benign/SOB_B_A-14-90001-200-001.png": _encode(image, "PNG"),
        "set/benign/p2.jpg": _encode(image, "JPEG"),
        f"set/malignant/{'x' * 90}/{'y' * 90}.png": _encode(image.convert("L"), "PNG"),
        "set/malignant/p4.tif": _encode(image, "TIFF", compression="tiff_lzw"),
        "set/README.txt": b"not an image",
        "set/inner.zip": b"PK\5\6" + bytes(18),
    }


def _zip_seeds(folder: Path) -> list[Files]:
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for path, content in _archived_images().items():
                archive.writestr(path, content)
            with archive.open("set/benign/big.png", "w", force_zip64=True) as stream:
                stream.write(_encode(_example_image(), "PNG"))
        seeds.append({"archive.zip": buffer.getvalue()})
    return seeds


def _tar_seeds(folder: Path) -> list[Files]:
    seeds = []
    for tar_format in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", format=tar_format) as archive:
            for path, content in _archived_images().items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        seeds.append({"archive.tar.gz": buffer.getvalue()})
    return seeds


def _read_archive(folder: Path) -> None:
    (path,) = folder.iterdir()
    registry = folder / "registry"
    # The app passes a stream, and the command line passes a path.
    source = path if path.suffix == ".gz" else io.BytesIO(path.read_bytes())
    result = add_archive(source, "added", registry=registry, source_name=path.name)
    load_dataset(result.dataset.images_dir)


# Files of the dataset registry.


def _dataset(folder: Path) -> pd.DataFrame:
    """Generate a dataset below a folder, and return its split."""
    generate_dataset(folder / "images", n_cases=10, images_per_case=1, size=(32, 48))
    return make_split(load_dataset(folder / "images"), n_folds=3)


def _fold_seeds(folder: Path) -> list[Files]:
    names = [
        f"SOB_{kind}-14-{n}-200-001.png" for n in range(90_000, 90_010) for kind in ("B_A", "M_DC")
    ]
    lines = [f"{name}|200|1|{'test' if i % 3 else 'train'}" for i, name in enumerate(names)]
    return [{"dsfold1.txt": ("\n".join(lines) + end).encode()} for end in ("\n", "")]


def _read_folds(folder: Path) -> None:
    (path,) = folder.iterdir()
    content = path.read_bytes()
    stored = store_fold_contents([(path.name, content)], folder / "registry")
    assert list_fold_files(folder / "registry") == stored
    read_fold_file(path)


def _manifest_seeds(folder: Path) -> list[Files]:
    write_split(_dataset(folder), folder / "split.csv")
    described = {
        "kind": "stored", "images": "images", "source": "set.zip",
        "added": "2026-11-30T10:00:00+00:00", "notes": ["A note."], "n_skipped": 1,
        "skipped": [["a.txt", "not an image"]], "sha256": "0" * 64,
    }  # fmt: skip
    job = Job(folder / "download")
    job.path.mkdir()
    job.write_spec(JobSpec(("data", "download"), {"url": "http://127.0.0.1/", "sha256": ""}))
    job.write_status("failed", phase="downloading", n_bytes=1, n_total_bytes=2, message="Failed.")
    return [
        {
            "registry/set/dataset.json": json.dumps(described).encode(),
            "registry/.downloads/other/job.json": (job.path / "job.json").read_bytes(),
            "registry/.downloads/other/status.json": job.status_file.read_bytes(),
            "runs/run/split.csv": (folder / "split.csv").read_bytes(),
            "runs/run/config.json": _config_text(),
            "runs/run/status.json": job.status_file.read_bytes(),
        }
    ]


def _read_manifest(folder: Path) -> None:
    datasets, _ = list_datasets(folder / "registry")
    for dataset in datasets:
        _require_text(dataset.name, dataset.kind, dataset.source, dataset.added)
        assert dataset.is_available in (True, False)
        _require_text(*dataset.details.get("notes", []))
        for path, reason in dataset.details.get("skipped", []):
            _require_text(path, reason)
    for download in list_downloads(folder / "registry"):
        _require_text(download.url, download.state, download.phase, download.message)
        min(1.0, download.n_bytes / (download.n_total_bytes or 1))
    images = RunImages.from_run(Run(folder / "runs" / "run"))
    count_leakage(images.split)
    summarize_subsets(images.split)
    row = images.find_row(str(images.split["sha256"].iloc[0]))
    _require_text(row["path"], row["case"], row["class"])


# Files of a run.


def _config_text() -> bytes:
    config = to_json(TrainingConfig("images", backbone="tiny", weights="none"))
    record = {"config": config, "versions": {"keras": "3"}, "git_commit": "0" * 40}
    return json.dumps(record | {"data_sha256": "0" * 64, "split_sha256": "0" * 64}).encode()


def _status_seeds(folder: Path) -> list[Files]:
    progress = {
        "phase": "head", "epoch": 1, "epochs": 5, "step": 2, "steps": 9, "seconds_left": 12.5,
        "message": "",
    }  # fmt: skip
    seeds = []
    for state in ("running", "paused", "done", "failed", "queued"):
        run = Run.create(folder / state)
        queue_job(run, JobSpec(("train",), {"a": 1}, {"A": "1"}))
        run.request("pause")
        run.write_status(state, **progress)
        (run.path / "config.json").write_bytes(_config_text())
        seeds.append(
            {f"runs/run/{path.name}": path.read_bytes() for path in run.path.glob("*.json")}
        )
    return seeds


def _read_status(folder: Path) -> None:
    runs = folder / "runs"
    (run,) = list_runs(runs)
    advance_queue(runs, list_runs, launch=lambda run: None, limit=lambda: 1)
    assert run.can_resume in (True, False)
    run.requested_action()
    with suppress(BcModelError):
        run.read_spec()
    with suppress(BcModelError):
        read_resumable_config(run)
    with suppress(BcModelError):
        compare_configs([run, run])
    try:
        _use_status(run)
    finally:
        with suppress(BcModelError):
            cancel_job(run)
        with suppress(BcModelError):
            delete_job(run)


def _use_status(run: Run) -> None:
    """Compute the texts of the page Train."""
    status = run.read_status()
    assert run.has_changed in (True, False)
    _require_text(status["state"], status.get("message", ""), status.get("phase", ""))
    if status.get("epochs"):
        steps = max(1, status.get("steps") or 1)
        step = min(status.get("step") or 0, steps)
        min(1.0, (status.get("epoch", 1) - 1 + step / steps) / status["epochs"])
        if (left := status.get("seconds_left")) is not None:
            format_duration(left)


def _history_seeds(folder: Path) -> list[Files]:
    run = Run.create(folder / "run")
    run.write_status("done")
    for epoch in range(1, 7):
        metrics = {"loss": 0.7, "accuracy": 0.5, "val_loss": 0.7 / epoch, "val_accuracy": 0.6}
        run.append_history(
            {"epoch": epoch, "phase": "head" if epoch < 4 else "finetune", **metrics,
             "learning_rate": 1e-3, "seconds": 1.5, "time": 1.8e9 + epoch}
        )  # fmt: skip
    return [{f"runs/run/{path.name}": path.read_bytes() for path in run.path.iterdir()}]


def _read_history(folder: Path) -> None:
    """Compute what the pages Train and Compare show."""
    run = Run.open(folder / "runs" / "run")
    history = run.read_history()
    if not history:
        return
    chart_learning_curve(history, "loss", "Loss")
    chart_learning_rate(history)
    chart_runs({"run": history, "other": history}, "val_loss", "Validation loss", ["A", "B"])
    for record in history:
        f"{record.get('val_loss', 0):.3f} {record.get('learning_rate', 0):.1e} {record['epoch']:d}"
    table = pd.DataFrame(history)
    pd.to_datetime([datetime.fromtimestamp(time) for time in table["time"]])
    run.truncate_history(2)


# Experiments, reports and models.


def _experiment_seeds(folder: Path) -> list[Files]:
    base = TrainingConfig(str(folder), backbone="tiny", weights="none", n_folds=3)
    plan = plan_experiment(base)
    for protocol in sorted(PROTOCOLS_WITH_LEAKAGE - {"folds"}):
        config = replace(base, protocol=protocol)
        plan += [(f"{protocol}-{label}", c) for label, c in plan_experiment(config)]
    # With a scheduler, the runs wait for a cluster, and no process starts.
    start_experiment("study", plan, folder, scheduler="tcp://127.0.0.1:1")
    spec = {"schema_version": 3, "protocols": ["image", "case"], "skipped": {"folds": []}}
    return [
        {
            "study.experiment.json": (folder / "study.experiment.json").read_bytes(),
            "study.protocols.json": json.dumps(spec).encode(),
        }
    ]


def _read_experiment(folder: Path) -> None:
    """Compute what the page Experiments shows."""
    for name in list_experiments(folder):
        experiment = read_experiment(folder, name)
        _require_text(experiment.name, experiment.created)
        assert len(run_states(experiment, folder)) <= len(experiment.runs)
        for group in summarize_experiment(experiment, folder):
            _require_text(group.group, *(check.message for check in group.checks))
        _require_text(*(check.message for check in check_selection(experiment)))
        comparison = compare_protocols(experiment, folder, n_resamples=10)
        _require_text(*(check.message for row in comparison.rows for check in row.checks))


def _report_seeds(folder: Path) -> list[Files]:
    split = _dataset(folder)
    prob = np.random.default_rng(0).uniform(0.1, 0.9, len(split))
    table = split.assign(prob_malignant=prob, subtype="adenosis")
    reports = [
        evaluate_predictions(table, protocol="case", has_leakage=False, n_resamples=100),
        evaluate_predictions(
            table.assign(case=""), protocol="image", has_leakage=True, n_resamples=100
        ),
    ]
    seeds = []
    for report in reports:
        report.save(folder)
        names = ("report.json", "predictions.csv")
        seeds.append({name: (folder / name).read_bytes() for name in names})
    return seeds


def _read_report(folder: Path) -> None:
    use_report(read_report(folder))


def use_report(report: EvaluationReport) -> None:
    """Compute what the page Evaluate shows."""
    assert report.predictions is not None
    _require_text(report.protocol, *(check.message for check in report.checks))
    chart_confusion(report.confusion)
    chart_reliability(report.calibration)
    case_table(report.predictions, report.threshold)
    metric_notes(report.metrics, METRIC_LABELS)
    if report.roc is not None:
        chart_roc(report)
        f"{report.metrics['roc_auc'].value:.2f}"
    if report.pr is not None:
        chart_precision_recall(report)
        f"{report.metrics['average_precision'].value:.2f}"
    if report.case_metrics is not None:
        chart_confusion(report.case_metrics.confusion)
        (tn, fp), (fn, tp) = report.case_metrics.confusion
        (fn + tp) / (tn + fp + fn + tp)
    chart_groups(list(report.subgroups))
    for group in report.subgroups:
        for name in subgroup_metrics(group.kind):
            _require_text(str(group.metrics[name]), group.name)
    report.summary()


def _card_seeds(folder: Path) -> list[Files]:
    dummy = replace(dummy_model_card((224, 224)), files={"served.xml": "0" * 64})
    bundled = (bundled_model_dir("bundled") / "model_card.json").read_bytes()
    card = _shorten(json.loads(bundled))
    return [
        {"runs/run/model/model_card.json": content}
        for content in (dumps(dummy).encode(), json.dumps(card).encode())
    ]


def _shorten(value: object) -> object:
    """Return a JSON value with short lists of cases and results; lists of numbers have rules."""
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], (dict, str)):
        return [_shorten(item) for item in value[:2]]
    return value


def _read_card(folder: Path) -> None:
    runs = folder / "runs"
    bundles, problems = list_bundles(runs, folder / "none")
    assert len(bundles) + len(problems) == 1
    bundle = open_bundle(runs / "run")
    _require_text(bundle.label, bundle.key, bundle.graph_sha256, *bundle.seen_cases)
    assert bundle.trained_on_all_images in (True, False)
    assert min(bundle.image_size) > 0
    assert bundle.temperature > 0
    card_to_markdown(bundle.card)


def _array_seeds(folder: Path) -> list[Files]:
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=size).astype(np.float32) for size in ((6, 4), (4, 2))]
    Head(tuple(kernels), tuple(np.zeros(k.shape[1], np.float32) for k in kernels)).save(
        folder / "head.npz"
    )
    with h5py.File(folder / "weights.h5", "w") as file:
        for i, kernel in enumerate(kernels):
            file[f"layers/dense_{i}/vars/0"] = kernel
        file["layers"].attrs["backend"] = "tensorflow"
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(folder / "weights.h5", "model.weights.h5")
    return [{path.name: path.read_bytes()} for path in sorted(folder.iterdir())]


def _read_arrays(folder: Path) -> None:
    (path,) = folder.iterdir()
    if path.suffix == ".npz":
        head = Head.load(path)
        features = np.zeros((1, head.kernels[0].shape[0]), np.float32)
        head.logits(features)
        head.gradient(features)
        return
    # `load_weights` handles every error of h5py behind this check; time, memory and crashes count.
    with (
        open_weights(path, max_bytes=2**20) as weights,
        suppress(Exception),
        h5py.File(weights) as file,
    ):
        file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)


def _seen_seeds(folder: Path) -> list[Files]:
    rows = [f"{i:064x},{i * 0x0123_4567:016x}" for i in range(1, 9)]
    text = "\n".join(["sha256,dhash", *rows, ""])
    return [{"seen_images.csv": text.encode()}, {"seen_images.csv": b"sha256,dhash\n"}]


def _read_seen(folder: Path) -> None:
    """Compare an image with the list of a model whose card contains the checksum of the list."""
    card = dummy_model_card((224, 224))
    files = {"seen_images.csv": file_sha256(folder / "seen_images.csv")}
    image = {"path": "a.png", "sha256": "0" * 64, "case": "", "group": "a", "dhash": 1}
    seen = find_seen_images(Bundle(folder, replace(card, files=files)), pd.DataFrame([image]))
    _require_text(*(check.message for check in seen.checks))


def _require_text(*values: object) -> None:
    """Raise AssertionError unless all values are text that a browser can show."""
    for value in values:
        assert isinstance(value, str), f"{value!r:.100} is not text"
        value.encode()


INTAKES = (
    Intake("png", _png_seeds, _read_image, (".png",)),
    Intake("jpeg", _jpeg_seeds, _read_image, (".jpg",)),
    Intake("tiff", _tiff_seeds, _read_image, (".tif",)),
    Intake("zip", _zip_seeds, _read_archive, (".zip",)),
    Intake("tar", _tar_seeds, _read_archive, (".gz",)),
    Intake("fold-file", _fold_seeds, _read_folds, (".txt",)),
    Intake("manifest", _manifest_seeds, _read_manifest, ("set/dataset.json", "other/job.json",
                                                         "other/status.json", "split.csv")),
    Intake("status", _status_seeds, _read_status, (".json",)),
    Intake("history", _history_seeds, _read_history, (".jsonl",)),
    Intake("experiment", _experiment_seeds, _read_experiment, (".json",)),
    Intake("report", _report_seeds, _read_report, (".json", ".csv")),
    Intake("model-card", _card_seeds, _read_card, (".json",)),
    Intake("arrays", _array_seeds, _read_arrays, (".npz", ".h5", ".keras")),
    Intake("seen-images", _seen_seeds, _read_seen, (".csv",)),
)  # fmt: skip
"""All intakes."""
