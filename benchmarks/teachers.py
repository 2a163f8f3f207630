"""The teachers of the bundled model: ``python -m benchmarks.teachers [DATA] --work WORK [--json]``.

It cross-validates each linear teacher and their weighted means at case level, on the features of
`build-bundled-model` in its work directory, which are measured first if they are missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model.data import background_mask
from bc_model.distillation import (
    DistillationConfig,
    Networks,
    Teacher,
    mean_logit,
    prepare_networks,
)
from bc_model.utils import usable_cores

DATASETS = ("breakhis_100x", "breakhis_200x_224")
EXTRA_DATASETS = ("breakhis_originals", "breakhis_originals_more")
N_FOLDS = 5
WEIGHTS = {
    "hand-crafted features": (1.0, 0.0, 0.0, 0.0),
    "Lite0, block 4": (0.0, 1.0, 0.0, 0.0),
    "Lite0, block 10": (0.0, 0.0, 1.0, 0.0),
    "Lite2, block 8": (0.0, 0.0, 0.0, 1.0),
    "ImageNet activations, equal": (0.0, 1.0, 1.0, 1.0),
    "all equal": (1.0, 1.0, 1.0, 1.0),
    "hand-crafted features twice": (2.0, 1.0, 1.0, 1.0),
    "mostly Lite0, block 4": (0.5, 2.0, 1.0, 1.0),
}
VARIANTS = {"unchanged": slice(0, 1), "with changed copies": slice(None)}


def cross_validate(networks: Networks, variants: slice, seed: int) -> np.ndarray:
    """Return the out-of-fold logits of each teacher, shape (n, n_teachers)."""
    from sklearn.model_selection import StratifiedGroupKFold

    source = networks.source
    features = networks.pool.variants[~source.is_extra]
    evaluated = source.evaluated
    table = evaluated.table
    logits = np.empty((len(table), 4))
    folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(table, table["class"], table["group"]):
        teacher = Teacher.fit(
            features[train][:, variants], evaluated.malignant[train], evaluated.case[train],
            networks.config.penalties,
        )  # fmt: skip
        logits[test] = teacher.predict_logits(teacher.normalize(features[test, 0]))
    return logits


def measure(networks: Networks, seeds: int) -> list[dict[str, Any]]:
    """Return ROC AUC and balanced accuracy of each teacher, means over the seeds."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    evaluated = networks.source.evaluated
    malignant = evaluated.malignant
    magnification = evaluated.table["magnification"].astype(int).to_numpy()
    tissue = 1.0 - background_mask(evaluated.pixels).mean(axis=(1, 2))
    subsets = {"all": np.ones(len(malignant), bool)}
    subsets |= {f"{m}X": magnification == m for m in sorted(set(magnification))}
    rows = []
    for variants, columns in VARIANTS.items():
        by_seed = [cross_validate(networks, columns, seed) for seed in range(seeds)]
        for name, weights in WEIGHTS.items():
            for unit, factor in (("logit", 1.0), ("logit times tissue", tissue)):
                scores = [mean_logit(logits, weights) * factor for logits in by_seed]
                row: dict[str, Any] = {"variants": variants, "teacher": name, "score": unit}
                for subset, mask in subsets.items():
                    y = malignant[mask]
                    row[subset] = {
                        "roc_auc": float(np.mean([roc_auc_score(y, s[mask]) for s in scores])),
                        "balanced_accuracy": float(
                            np.mean([balanced_accuracy_score(y, s[mask] > 0) for s in scores])
                        ),
                    }
                rows.append(row)
    return rows


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True), envvar="BC_DATA")
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 50))
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(data: Path, work: Path, seeds: int, as_json: bool) -> None:
    """Cross-validate the teachers of the bundled model on DATA (default: BC_DATA)."""
    extra = tuple(name for name in EXTRA_DATASETS if (data / name).is_dir())
    networks = prepare_networks(data, DATASETS, extra, work, DistillationConfig(), usable_cores())
    rows = measure(networks, seeds)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    subsets = [key for key in rows[0] if isinstance(rows[0][key], dict)]
    for row in rows:
        metrics = ", ".join(
            f"{s}: {row[s]['roc_auc']:.3f} / {row[s]['balanced_accuracy']:.3f}" for s in subsets
        )
        click.echo(f"{row['teacher']}, {row['variants']}, {row['score']}: {metrics}")


if __name__ == "__main__":
    main()
