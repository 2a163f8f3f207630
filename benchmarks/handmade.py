"""What a network has to beat: ``python -m benchmarks.handmade [DATA ...] [--json]``.

Hand-made features of colour, stain and texture, and logistic regression, judged by case-grouped
cross-validation: no case stands on both sides, and the penalty is chosen inside the training part.
A network that is not clearly better has learned nothing that these do not say. Beside them, on the
same folds: the linear model over descriptors that teaches the model in the box, with the penalty of
its recipe, which was chosen while such folds were looked at. `--against` compares the first seed's
hand-made predictions with those of the model in the box, paired, by bootstrap over cases.
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

from bc_model.data import optical_density, preprocess_image, read_dataset, read_image
from bc_model.distillation import DistillationConfig, Teacher, extract_features
from bc_model.evaluation import Side, compare, read_predictions
from bc_model.utils import to_json

SETS = ("breakhis_100x", "breakhis_200x_224")
FRAME = (350, 230)
"""Width and height, px, that every picture is brought to: the proportions of BreakHis."""
RADII = (1, 2, 3)
DISTANCES = (1, 2, 4)
PENALTIES = np.logspace(-4, 1, 6)
N_FOLDS = 5


def features(path: Path) -> np.ndarray:
    """Return 108 numbers of one picture.

    RGB, then haematoxylin, eosin and the rest as optical density: mean, spread, skewness and three
    percentiles of each; uniform local binary patterns at three radii (Ojala, Pietikainen and
    Maenpaa, IEEE TPAMI 24(7), 2002); six statistics of grey-level co-occurrence at three distances
    (Haralick, Shanmugam and Dinstein, IEEE TSMC 3(6), 1973).
    """
    import cv2
    from scipy.stats import skew
    from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

    cv2.setNumThreads(1)
    rgb = cv2.resize(read_image(path), FRAME, interpolation=cv2.INTER_AREA)
    found: list[np.ndarray] = []
    for channels in (rgb.reshape(-1, 3).astype(float), optical_density(rgb).reshape(-1, 3)):
        found += [channels.mean(0), channels.std(0), skew(channels)]
        found += list(np.percentile(channels, [10, 50, 90], axis=0))
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    for radius in RADII:
        points = 8 * radius
        patterns = local_binary_pattern(gray, points, radius, "uniform")
        found.append(np.histogram(patterns, points + 2, (0, points + 2), density=True)[0])
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    together = graycomatrix(gray // 8, DISTANCES, angles, levels=32, symmetric=True, normed=True)
    for name in ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM"):
        found.append(graycoprops(together, name).mean(axis=1))
    return np.concatenate(found)


def deal(malignant: np.ndarray, case: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return positions to learn from and to judge on, by fold; no case is in both."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(malignant, malignant, case))


def cross_validate(
    table: np.ndarray, malignant: np.ndarray, case: np.ndarray, seed: int
) -> np.ndarray:
    """Return each picture's probability of malignancy by a model that has not seen its case."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    prob = np.empty(len(malignant))
    for train, test in deal(malignant, case, seed):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000)
        )
        search = GridSearchCV(
            model,
            {"logisticregression__C": PENALTIES},
            scoring="roc_auc",
            cv=StratifiedGroupKFold(N_FOLDS - 1, shuffle=True, random_state=seed),
        )
        search.fit(table[train], malignant[train], groups=case[train])
        prob[test] = search.predict_proba(table[test])[:, 1]
    return prob


def cross_validate_teacher(
    descriptors: np.ndarray, malignant: np.ndarray, case: np.ndarray, seed: int
) -> np.ndarray:
    """Return each picture's logit by the teacher of the model in the box, without its case."""
    logit = np.empty(len(malignant))
    for train, test in deal(malignant, case, seed):
        teacher = Teacher.fit(
            descriptors[train], malignant[train], case[train], DistillationConfig().penalty
        )
        logit[test] = teacher.predict_logit(teacher.normalize(descriptors[test]))
    return logit


def auc_by_fold(
    score: np.ndarray, malignant: np.ndarray, case: np.ndarray, seed: int
) -> list[float]:
    """Return the area under the ROC curve of each fold of a seed."""
    from sklearn.metrics import roc_auc_score

    return [
        float(roc_auc_score(malignant[test], score[test]))
        for _, test in deal(malignant, case, seed)
    ]


def read(folders: list[Path]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the rows of the manifests, named by set and path, and the features of each."""
    tables = []
    for folder in folders:
        images = read_dataset(folder).images
        names = f"{folder.name}/" + images["path"]
        tables.append(images.assign(file=[folder / p for p in images["path"]], path=names))
    table = pd.concat(tables, ignore_index=True)
    # A forked child would inherit locks that threads of this process hold.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return table, np.stack(list(pool.map(features, table["file"], chunksize=16)))


def measure(folders: list[Path], seeds: int, against: Path | None = None) -> dict[str, Any]:
    """Compute the features, cross-validate once a seed, and return figures."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    table, found = read(folders)
    truth = (table["class"] == "malignant").to_numpy(bool)
    groups = table["group"].to_numpy(str)
    probs = [cross_validate(found, truth, groups, seed) for seed in range(seeds)]
    descriptors = extract_features(
        np.stack(
            [
                preprocess_image(read_image(f), DistillationConfig().image_size)
                for f in table["file"]
            ]
        )
    )
    logits = [cross_validate_teacher(descriptors, truth, groups, seed) for seed in range(seeds)]

    def spread_of(values: list[float]) -> dict[str, Any]:
        return {"mean": float(np.mean(values)), "sd": float(np.std(values)), "each": values}

    metrics: dict[str, Any] = {
        "images": len(truth),
        "cases": len(set(groups)),
        "features": found.shape[1],
        "seeds": seeds,
    }
    for name, scores, threshold_choice in (("hand-made", probs, 0.5), ("teacher", logits, 0.0)):
        metrics[name] = {
            "roc_auc": spread_of([float(roc_auc_score(truth, score)) for score in scores]),
            "balanced_accuracy": spread_of(
                [
                    float(balanced_accuracy_score(truth, score >= threshold_choice))
                    for score in scores
                ]
            ),
            "roc_auc_by_fold": auc_by_fold(scores[0], truth, groups, 0),
        }
    if against:
        metrics["against"] = compare(
            Side("hand-made", table.assign(prob_malignant=probs[0])),
            Side("the model in the box", read_predictions(against)),
        )
    return metrics


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True), nargs=-1)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Predictions to compare with: cross_validation.csv or nested_selection.csv of the model in "
    "the box.",
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(data: tuple[Path, ...], against: Path | None, seeds: int, as_json: bool) -> None:
    """Cross-validate hand-made features on the pictures in DATA; default: both sets of BC_DATA."""
    root = Path(os.environ.get("BC_DATA", "../shared/data"))
    found = measure(list(data) or [root / name for name in SETS], seeds, against)
    comparison = found.pop("against", None)
    if as_json:
        found |= {"against": to_json(comparison)} if comparison else {}
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(
        f"{found['features']} hand-made features, {found['images']} pictures of "
        f"{found['cases']} cases, {found['seeds']} seeds of {N_FOLDS} case-grouped folds"
    )
    for who in ("hand-made", "teacher"):
        for name, words in (("roc_auc", "ROC AUC"), ("balanced_accuracy", "balanced accuracy")):
            one = found[who][name]
            click.echo(f"{who}, {words}: {one['mean']:.3f} +/- {one['sd']:.3f}")
        folds = ", ".join(f"{auc:.2f}" for auc in found[who]["roc_auc_by_fold"])
        click.echo(f"{who}, ROC AUC by fold of the first seed: {folds}")
    if comparison:
        for name, one in comparison.differences.items():
            click.echo(f"{name.replace('_', ' ')}: {one.text()}")


if __name__ == "__main__":
    main()
