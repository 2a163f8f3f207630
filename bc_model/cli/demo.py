"""``demo``: write the synthetic samples of the demonstration and their results."""

import json
from pathlib import Path
from typing import Any

import click

from bc_model import evaluation, inference
from bc_model.checks import check_to_json
from bc_model.cli.options import PATH, json_option, print_json
from bc_model.gradcam import encode_png
from bc_model.utils import check_writable, to_json, write_files_atomic


@click.command()
@click.option("--out", type=PATH, required=True, help="Directory for the images and demo.json.")
@json_option
def demo(out: Path, as_json: bool) -> int:
    """Classify six synthetic images and compare the maps with the true lesions.

    Works offline. The images and the model are synthetic, not tissue. For each sample, the image,
    the mask, the outlined lesion and the contribution map are written as PNG.
    """
    check_writable(out)
    classifier = inference.load_classifier(evaluation.DEMO_MODEL_NAME)
    samples = evaluation.make_demo_samples()
    results = [evaluation.evaluate_demo_sample(classifier, sample) for sample in samples]
    files: dict[str, bytes] = {}
    rows: list[dict[str, Any]] = []
    for sample, result in zip(samples, results, strict=True):
        base = sample.name.lower().replace(" ", "-")
        pixels = evaluation.draw_demo_sample(sample, result)
        pixels["mask"] = (sample.mask[..., None] * [255, 255, 255]).astype("uint8")
        names = {label: f"{base}-{label.lower().replace(' ', '-')}.png" for label in pixels}
        files |= {names[label]: encode_png(image) for label, image in pixels.items()}
        rows.append(
            {
                "name": sample.name,
                "label": sample.label,
                "role": sample.role,
                "outcome": result.outcome,
                "prob_malignant": result.prediction.prob_malignant,
                "pointing_hit": result.pointing_hit,
                "mass_in_lesion": result.mass_in_lesion,
                "checks": [check_to_json(check) for check in result.prediction.checks],
                "files": list(names.values()),
            }
        )
    content = {
        "model": classifier.bundle.card.name,
        "notice": evaluation.DEMO_NOTICE,
        "use": "Research use only, not a diagnosis.",
        "uncertain_band": classifier.bundle.uncertain_band,
        "pointing_score": to_json(evaluation.score_pointing(results)),
        "samples": rows,
    }
    out.mkdir(parents=True, exist_ok=True)
    files["demo.json"] = (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
    write_files_atomic({out / name: data for name, data in files.items()})
    if as_json:
        print_json(content)
        return 0
    for row in rows:
        prob = row["prob_malignant"]
        shown = "" if prob is None else f", estimated probability of malignancy {prob:.2f}"
        click.echo(f"{row['name']}: {row['outcome']}{shown}")
    click.echo(f"Results written to {out}. {evaluation.DEMO_NOTICE} Research use only.")
    return 0
