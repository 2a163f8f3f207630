"""Time of one step of "What if": change, prediction with its map, and overlay.

``python -m benchmarks.what_if`` prints the median and the 90th percentile over 40 changes of a
synthetic frame of 700 x 460 px with the bundled model.
"""

from __future__ import annotations

import time

import click
import numpy as np

from bc_model import load_classifier
from bc_model.contribution_map import overlay_signed_map
from bc_model.data import (
    Fill,
    ImageChange,
    decode_image,
    example_png,
    scale_of_frame,
)
from bc_model.gradcam import encode_jpeg
from bc_model.inference import predict_change

N_CHANGES = 40


@click.command()
def main() -> None:
    """Print the time of a change in milliseconds."""
    classifier = load_classifier("bundled")
    image, scale = decode_image(example_png(malignant=True), ""), scale_of_frame(200, 700)
    prediction = classifier.predict(image, scale=scale, show_anyway=True)
    rng = np.random.default_rng(0)
    times_ms = []
    for number in range(N_CHANGES + 3):
        left, top = rng.uniform(0.0, 0.5, 2)
        change = ImageChange(
            (left, top, left + 0.3, top + 0.3),
            list(Fill)[number % 3],
            blur_px=rng.uniform(0.0, 5.0),
            brightness=rng.uniform(0.6, 1.4),
            stain=0.9,
        )
        started = time.perf_counter()
        result = predict_change(classifier, image, prediction, change)
        assert result.prediction.contribution is not None
        encode_jpeg(overlay_signed_map(result.image, result.prediction.contribution))
        times_ms.append(1000 * (time.perf_counter() - started))
    measured = times_ms[3:]  # The first ones compile the graph.
    click.echo(
        f"{N_CHANGES} changes: median {np.median(measured):.0f} ms, 90th percentile "
        f"{np.quantile(measured, 0.9):.0f} ms"
    )


if __name__ == "__main__":
    main()
