"""Which foreign images are blocked, and which real ones, with references of other cases.

``python -m benchmarks.input_checks --data DIR``. The scale estimator and the input reference are
fitted five times, each without the cases of the images that they judge. The network itself was
trained on all cases, so the probabilities are those of seen images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bc_model import distillation, inference
from bc_model.data import scale_of_frame
from benchmarks.foreign_inputs import ForeignInput, make_foreign_inputs

DATASETS = ("breakhis_100x", "breakhis_200x_224")
EXTRA = ("breakhis_originals", "breakhis_originals_more")
N_FOLDS = 5


def main() -> None:
    """Print the proportions of blocked images by kind, and the time of the checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="Table of all images (CSV).")
    args = parser.parse_args()
    bundle = inference.open_bundled_model()
    source = distillation.TrainingImages.read(args.data, DATASETS, bundle.image_size, EXTRA)
    foreign = list(make_foreign_inputs(args.data))
    rows = []
    cases = np.unique(source.case)
    folds = dict(
        zip(cases, np.random.default_rng(0).permutation(len(cases)) % N_FOLDS, strict=True)
    )
    for fold in range(N_FOLDS):
        is_out = np.array([folds[case] == fold for case in source.case])
        with tempfile.TemporaryDirectory() as folder:
            fitted = _fit_without(bundle, source.select(~is_out), Path(folder) / "model")
            classifier = inference.load_classifier(fitted.folder)
            for item in _items(source.select(is_out), foreign, folds, fold):
                rows.append(_judge(classifier, item))
                _write(f"\rfold {fold}, {len(rows)} images")
    table = pd.DataFrame(rows)
    if args.out:
        table.to_csv(args.out, index=False)
    _report(table)
    _report_time(source)


def _fit_without(
    bundle: inference.Bundle, source: distillation.TrainingImages, folder: Path
) -> inference.Bundle:
    """Return a copy of the bundle with statistics of the given images only."""
    folder.mkdir()
    for name in (*bundle.card.files, "model_card.json"):
        (folder / name).write_bytes((bundle.folder / name).read_bytes())
    return distillation.write_input_files(replace(bundle, folder=folder), source)


def _items(
    source: distillation.TrainingImages, foreign: list[ForeignInput], folds: dict[str, int],
    fold: int,
) -> Iterator[ForeignInput]:  # fmt: skip
    table = source.table
    for i, magnification in enumerate(table["magnification"]):
        if magnification in (100, 200):
            frame = source.frames[i]
            kind = "real frame" if frame.shape[1] == 700 else "real frame, resized to 224 x 224"
            scale = scale_of_frame(int(magnification), frame.shape[1])
            yield ForeignInput(kind, frame, scale, table["case"].iloc[i])
    for i, item in enumerate(foreign):
        if folds.get(item.case, i % N_FOLDS) == fold:
            yield item


def _judge(classifier: inference.Classifier, item: ForeignInput) -> dict[str, object]:
    found = classifier.predict(item.image, scale=item.scale, show_anyway=True)
    codes = [check.code for check in found.checks if check.severity.value == "blocking"]
    return {
        "kind": item.kind,
        "case": item.case,
        "magnification": item.scale.magnification,
        "is_blocked": found.is_forced,
        "is_uncertain": found.outcome == "uncertain",
        "prob_malignant": found.prob_malignant,
        "codes": " ".join(codes),
    }


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _report(table: pd.DataFrame) -> None:
    table["is_stopped"] = table["is_blocked"] | table["is_uncertain"]
    is_open = ~table["is_blocked"]
    table["open_above_0.9"] = is_open & (table["prob_malignant"] > 0.9)
    table["open_below_0.1"] = is_open & (table["prob_malignant"] < 0.1)
    table["class_above_0.9"] = ~table["is_stopped"] & (table["prob_malignant"] > 0.9)
    columns = ["is_blocked", "is_stopped", "open_above_0.9", "open_below_0.1", "class_above_0.9"]
    _write("\n" + table.groupby("kind", sort=False)[columns].mean().round(3).to_string() + "\n")
    is_real = table["kind"].str.startswith("real")
    for name, part in (("foreign", table[~is_real]), ("real", table[is_real])):
        _write(
            f"{name}: {len(part)} images, {part['is_blocked'].mean():.1%} blocked, "
            f"{part['is_stopped'].mean():.1%} blocked or uncertain, "
            f"{part['open_above_0.9'].sum()} unblocked above 0.9, "
            f"{part['open_below_0.1'].sum()} unblocked below 0.1, "
            f"{part['class_above_0.9'].sum()} above 0.9 with a class\n"
        )
    real = table[is_real]
    by_case = real.groupby("case")["is_blocked"].mean().mean()
    _write(f"real, mean over cases: {by_case:.1%} blocked\n")
    reasons = real["codes"].str.split().explode().value_counts()
    _write(f"reasons for real images: {reasons.to_dict()}\n")


def _report_time(source: distillation.TrainingImages) -> None:
    engine = inference.load_classifier("bundled").engine.engine
    pixels = source.pixels[:50]
    started = time.perf_counter()
    for image in pixels:
        inference.check_field(engine, image)
    _write(f"all checks: {(time.perf_counter() - started) / len(pixels) * 1000:.1f} ms an image\n")


if __name__ == "__main__":
    main()
