"""Serving against its references: ``python -m benchmarks.serving [--json]``.

Pictures per second at batch 32 and the time of one explained picture, on one ResNet50 with random
weights at 224x224, every contestant on the same weights and pictures. Beside them the machine's own
ceiling: a matrix multiplication by the same engine at the same precision.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from bc_model.serving.precision import supported_precisions
from benchmarks.ceiling import ceiling_gflops, count_gflop
from benchmarks.start import measure_start
from benchmarks.timing import ROUNDS, Ratio, describe_machine, faster, run_rounds

BATCH = 32
SIZE = (224, 224)


def build(folder: Path) -> tuple[Any, Any, np.ndarray]:
    """Return a Keras model, its bundle with every precision, and a batch of pictures."""
    from bc_model.data.pictures import model_input
    from bc_model.data.synthetic import draw_picture
    from bc_model.model import build_model
    from bc_model.serving.export import write_bundle
    from bc_model.serving.optimise import measure_parity, quantise
    from benchmarks.passport import dummy_passport

    pixels = np.stack(
        [
            model_input(draw_picture(malignant=bool(i % 2), seed=i, case_seed=i), SIZE)
            for i in range(BATCH)
        ]
    )
    model = build_model("resnet50", image_size=SIZE)
    bundle = write_bundle(model, folder / "model", dummy_passport(SIZE))
    bundle = quantise(bundle, pixels)
    bundle = measure_parity(bundle, pixels, np.arange(BATCH) % 2 == 1)
    return model, bundle, pixels


def throughput(model: Any, bundle: Any, pixels: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """Time one batch through every contestant."""
    import onnxruntime
    import tensorflow as tf

    from bc_model.serving.engine import Engine
    from bc_model.serving.export_formats import export_model

    batch = pixels.astype(np.float32)
    compiled = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec((None, *SIZE, 3), tf.float32)],
    )
    tensor = tf.constant(batch)
    onnx = export_model(bundle, "onnx", bundle.folder.parent).path
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: batch}
    contestants: dict[str, Callable[[], Any]] = {
        "Model.predict": lambda: model.predict(batch, batch_size=BATCH, verbose=0),
        "tf.function": lambda: compiled(tensor).numpy(),
        "ONNX Runtime": lambda: session.run(None, feed),
    }
    for precision in ("f32", "bf16", "int8"):
        engine = Engine(bundle, precision, require_parity=False)
        contestants[precision] = lambda engine=engine: engine.predict(pixels)
        if precision == "f32":
            contestants["f32 with heatmaps"] = lambda engine=engine: engine.explain(pixels)
    return run_rounds(contestants, rounds=rounds)


def one_picture(model: Any, bundle: Any, pixels: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    """Time one explained picture, decoded already, through every contestant."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    from bc_model.gradcam import GradCAM
    from bc_model.serving.engine import Engine

    single = pixels[:1]
    engine = Engine(bundle)
    tape = GradCAM(model)
    their_way = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)
    contestants = {
        "this project": lambda: engine.explain(single),
        "prediction alone": lambda: engine.predict(single),
        "GradientTape": lambda: tape(single, "malignant"),
        "tf-keras-vis": lambda: their_way(
            CategoricalScore([1]),
            single.astype(np.float32),
            penultimate_layer="conv5_block3_out",
            seek_penultimate_conv_layer=False,
        ),
    }
    return run_rounds(contestants, rounds=3 * rounds)


def decode_to_overlay(bundle: Any, rounds: int) -> float:
    """Return the median milliseconds from a PNG's bytes to both overlays as JPEG."""
    from bc_model.data.names import CLASSES
    from bc_model.data.pictures import decode_picture
    from bc_model.data.synthetic import example_png
    from bc_model.overlay import encode_jpeg, overlay_heatmap, shared_scale
    from bc_model.serving.batching import BatchingEngine
    from bc_model.serving.engine import Engine
    from bc_model.serving.verdict import diagnose

    engine = BatchingEngine(Engine(bundle))
    data = example_png(malignant=True)

    def answer() -> None:
        rgb = decode_picture(data, "example.png")
        maps = diagnose(engine, rgb, "example.png").heatmaps
        for name in CLASSES:
            scale = shared_scale(maps)
            encode_jpeg(overlay_heatmap(rgb, maps[name], full_scale=scale))

    return 1e3 * float(np.median(run_rounds({"answer": answer}, rounds=3 * rounds)["answer"]))


def measure(rounds: int) -> dict[str, Any]:
    """Measure everything and return it as JSON-safe values."""
    with tempfile.TemporaryDirectory() as folder:
        model, bundle, pixels = build(Path(folder))
        batch = throughput(model, bundle, pixels, rounds)
        single = one_picture(model, bundle, pixels, rounds)
        ceiling = {name: ceiling_gflops(name) for name in ("f32", "bf16")}
        gflop = count_gflop(model)
        answer = decode_to_overlay(bundle, rounds)
        precisions = supported_precisions()
    references = ("Model.predict", "tf.function", "ONNX Runtime")
    ours = ("f32", "bf16", "int8")
    share = {
        name: gflop * BATCH / float(np.median(batch[name])) / ceiling[name] for name in ceiling
    }
    extra = batch["f32 with heatmaps"] / batch["f32"] - 1.0
    return {
        "machine": describe_machine(),
        "batch": BATCH,
        "rounds": rounds,
        "native_precisions": sorted(precisions),
        "gflop_per_picture": gflop,
        "pictures_per_second": {k: BATCH / float(np.median(v)) for k, v in batch.items()},
        "faster_at_batch_32": {
            name: {reference: asdict(faster(batch, name, reference)) for reference in references}
            for name in ours
        },
        "milliseconds_one_picture": {k: 1e3 * float(np.median(v)) for k, v in single.items()},
        "faster_one_explained_picture": {
            reference: asdict(faster(single, "this project", reference))
            for reference in ("tf-keras-vis", "GradientTape")
        },
        "heatmap_extra_cost_at_batch_32": float(np.median(extra)),
        "heatmap_extra_cost_one_picture": float(
            np.median(single["this project"] / single["prediction alone"] - 1.0)
        ),
        "ceiling_gflops": ceiling,
        "share_of_ceiling": share,
        "decode_to_overlay_ms": answer,
        "start": measure_start(),
    }


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="At least five.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, as_json: bool) -> None:
    """Measure serving side by side with its references."""
    found = measure(max(5, rounds))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    machine = found["machine"]
    click.echo(
        f"{machine['processor']}, {machine['cores']} cores, {', '.join(machine['features'])}"
    )
    native = ", ".join(found["native_precisions"])
    click.echo(f"  computed natively: {native}; what is not among them fell back to f32")
    for name, speed in found["pictures_per_second"].items():
        click.echo(f"  {name}: {speed:.1f} pictures/s")
    for name, against in found["faster_at_batch_32"].items():
        words = ", ".join(f"{Ratio(**ratio)} {reference}" for reference, ratio in against.items())
        click.echo(f"  {name} against {words}")
    for name, milliseconds in found["milliseconds_one_picture"].items():
        click.echo(f"  one picture, {name}: {milliseconds:.1f} ms")
    for name, ratio in found["faster_one_explained_picture"].items():
        click.echo(f"  one explained picture against {name}: {Ratio(**ratio)}")
    click.echo(f"  heatmaps cost {found['heatmap_extra_cost_at_batch_32']:.1%} more at batch 32")
    click.echo(f"  decode to overlay, one picture: {found['decode_to_overlay_ms']:.0f} ms")
    for name, part in found["share_of_ceiling"].items():
        click.echo(
            f"  {name}: {part:.0%} of the machine's {found['ceiling_gflops'][name]:.0f} GFLOP/s"
        )
    for name, value in found["start"].items():
        click.echo(f"  {name.replace('_', ' ')}: {value:.2f}")


if __name__ == "__main__":
    main()
