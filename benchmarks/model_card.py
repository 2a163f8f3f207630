"""A model card for an untrained model: benchmarks measure speed, not predictions."""

import bc_model
from bc_model.inference import (
    Architecture,
    DecisionThreshold,
    ModelCard,
    ModelInput,
    Scale,
    SubsetCounts,
    Temperature,
    TrainingData,
)


def dummy_model_card(image_size: tuple[int, int]) -> ModelCard:
    """Return a valid model card that states random weights."""
    none = "none: random weights"
    return ModelCard(
        name="benchmark",
        version=bc_model.__version__,
        created="1970-01-01T00:00:00+00:00",
        architecture=Architecture("resnet50", "none", 0),
        input=ModelInput(image_size[0], image_size[1], "in the graph: caffe"),
        scale=Scale((), {}, none),
        data=TrainingData(
            dataset_sha256="0" * 64,
            split_sha256="0" * 64,
            protocol="none",
            has_leakage=False,
            is_synthetic=True,
            n_images=SubsetCounts(),
            n_cases=SubsetCounts(),
            training_cases=(),
            validation_cases=(),
            license=none,
        ),
        threshold=DecisionThreshold(0.5, none),
        temperature=Temperature(1.0, none),
    )
