"""A baseline for networks: ``python -m benchmarks.handcrafted_features [DATA ...] [--json]``.

It evaluates hand-crafted features of color, stain and texture with logistic regression by
case-level cross-validation. The penalty is selected inside the training subset. On the same folds
it evaluates the teacher of the bundled model that uses hand-crafted features, with its fixed
penalty, which was chosen while such folds were inspected. `--against` compares the baseline with
predictions of the bundled model.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from bc_model.data import load_dataset, preprocess_image, read_image, stain_densities
from bc_model.distillation import DistillationConfig, LinearTeacher, extract_features
from bc_model.evaluation import ComparedModel, compare_predictions, read_predictions
from bc_model.utils import to_json

DATASETS = ("breakhis_100x", "breakhis_200x_224")
FRAME = (350, 230)
"""Width and height of the resized images, px, with the aspect ratio of BreakHis."""
RADII = (1, 2, 3)
DISTANCES = (1, 2, 4)
PENALTIES = np.logspace(-4, 1, 6)
N_FOLDS = 5


def compute_features(path: Path) -> np.ndarray:
    """Return 108 features of one image.

    The features are mean, standard deviation, skewness and three percentiles of RGB and of the
    stain densities, uniform local binary patterns at three radii, and six statistics of gray-level
    co-occurrence at three distances.

    References
    ----------
    Ojala, Pietikainen and Maenpaa, IEEE TPAMI 24(7), 2002.
    Haralick, Shanmugam and Dinstein, IEEE TSMC 3(6), 1973.
    """
    import cv2
    from scipy.stats import skew
    from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

    cv2.setNumThreads(1)
    rgb = cv2.resize(read_image(path), FRAME, interpolation=cv2.INTER_AREA)
    features: list[np.ndarray] = []
    for channels in (rgb.reshape(-1, 3).astype(float), stain_densities(rgb).reshape(-1, 3)):
        features += [channels.mean(0), channels.std(0), skew(channels)]
        features += list(np.percentile(channels, [10, 50, 90], axis=0))
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    for radius in RADII:
        points = 8 * radius
        patterns = local_binary_pattern(gray, points, radius, "uniform")
        features.append(np.histogram(patterns, points + 2, (0, points + 2), density=True)[0])
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    pairs = graycomatrix(gray // 8, DISTANCES, angles, levels=32, symmetric=True, normed=True)
    for name in ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM"):
        features.append(graycoprops(pairs, name).mean(axis=1))
    return np.concatenate(features)


def make_folds(
    malignant: np.ndarray, case: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return training and test positions of each fold, without shared cases."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(malignant, malignant, case))


def cross_validate(
    features: np.ndarray, malignant: np.ndarray, case: np.ndarray, seed: int
) -> np.ndarray:
    """Return out-of-fold probabilities of malignancy, in [0, 1]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    prob = np.empty(len(malignant))
    for train, test in make_folds(malignant, case, seed):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000)
        )
        search = GridSearchCV(
            model,
            {"logisticregression__C": PENALTIES},
            scoring="roc_auc",
            cv=StratifiedGroupKFold(N_FOLDS - 1, shuffle=True, random_state=seed),
        )
        search.fit(features[train], malignant[train], groups=case[train])
        prob[test] = search.predict_proba(features[test])[:, 1]
    return prob


def cross_validate_teacher(
    features: np.ndarray, malignant: np.ndarray, case: np.ndarray, seed: int
) -> np.ndarray:
    """Return out-of-fold logits of the hand-crafted teacher of the bundled model."""
    logit = np.empty(len(malignant))
    for train, test in make_folds(malignant, case, seed):
        teacher = LinearTeacher.fit(
            features[train, None], malignant[train], case[train], DistillationConfig().penalties[0]
        )
        logit[test] = teacher.predict_logit(teacher.normalize(features[test]))
    return logit


def auc_by_fold(
    score: np.ndarray, malignant: np.ndarray, case: np.ndarray, seed: int
) -> list[float]:
    """Return the ROC AUC of each fold of a seed."""
    from sklearn.metrics import roc_auc_score

    return [
        float(roc_auc_score(malignant[test], score[test]))
        for _, test in make_folds(malignant, case, seed)
    ]


def read_features(folders: list[Path]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the images of the datasets, named by dataset and path, and their features."""
    tables = []
    for folder in folders:
        images = load_dataset(folder).images
        paths = f"{folder.name}/" + images["path"]
        tables.append(images.assign(file=[folder / p for p in images["path"]], path=paths))
    table = pd.concat(tables, ignore_index=True)
    # A forked process would inherit the locks of threads of this process.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return table, np.stack(list(pool.map(compute_features, table["file"], chunksize=16)))


def measure(folders: list[Path], seeds: int, against: Path | None = None) -> dict[str, Any]:
    """Cross-validate the baseline and the teacher with each seed and return metrics."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    images, features = read_features(folders)
    malignant = (images["class"] == "malignant").to_numpy(bool)
    groups = images["group"].to_numpy(str)
    probs = [cross_validate(features, malignant, groups, seed) for seed in range(seeds)]
    for_teacher = extract_features(
        np.stack(
            [
                preprocess_image(read_image(f), DistillationConfig().image_size)
                for f in images["file"]
            ]
        )
    )
    logits = [cross_validate_teacher(for_teacher, malignant, groups, seed) for seed in range(seeds)]

    def summarize(values: list[float]) -> dict[str, Any]:
        return {"mean": float(np.mean(values)), "sd": float(np.std(values)), "by_seed": values}

    metrics: dict[str, Any] = {
        "images": len(malignant),
        "cases": len(set(groups)),
        "features": features.shape[1],
        "seeds": seeds,
    }
    for name, scores, threshold in (("hand-crafted", probs, 0.5), ("teacher", logits, 0.0)):
        metrics[name] = {
            "roc_auc": summarize([float(roc_auc_score(malignant, score)) for score in scores]),
            "balanced_accuracy": summarize(
                [float(balanced_accuracy_score(malignant, score >= threshold)) for score in scores]
            ),
            "roc_auc_by_fold": auc_by_fold(scores[0], malignant, groups, 0),
        }
    if against:
        metrics["against"] = compare_predictions(
            ComparedModel("hand-crafted", images.assign(prob_malignant=probs[0])),
            ComparedModel("bundled model", read_predictions(against)),
        )
    return metrics


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True), nargs=-1)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A CSV file with predictions of the bundled model.",
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(data: tuple[Path, ...], against: Path | None, seeds: int, as_json: bool) -> None:
    """Cross-validate hand-crafted features on DATA; default: both datasets of BC_DATA."""
    root = Path(os.environ.get("BC_DATA", "data"))
    found = measure(list(data) or [root / name for name in DATASETS], seeds, against)
    comparison = found.pop("against", None)
    if as_json:
        found |= {"against": to_json(comparison)} if comparison else {}
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(
        f"{found['features']} hand-crafted features, {found['images']} images of "
        f"{found['cases']} cases, {found['seeds']} seeds of {N_FOLDS} case-level folds"
    )
    for model in ("hand-crafted", "teacher"):
        for name, label in (("roc_auc", "ROC AUC"), ("balanced_accuracy", "balanced accuracy")):
            metric = found[model][name]
            click.echo(f"{model}, {label}: {metric['mean']:.3f} +/- {metric['sd']:.3f}")
        folds = ", ".join(f"{auc:.2f}" for auc in found[model]["roc_auc_by_fold"])
        click.echo(f"{model}, ROC AUC by fold of the first seed: {folds}")
    if comparison:
        for name, difference in comparison.differences.items():
            click.echo(f"{name.replace('_', ' ')}: {difference.text()}")


if __name__ == "__main__":
    main()
