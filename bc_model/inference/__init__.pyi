from .batching import BatchingEngine, predict_files
from .bundle import (
    BUNDLED_MODELS_DIR,
    KERAS_FILE,
    Bundle,
    bundled_model_dir,
    file_sha256,
    has_bundled_model,
    list_bundles,
    open_bundle,
    open_bundled_model,
)
from .classifier import Classifier, load_classifier
from .dataset_checks import check_files, count_reasons
from .engine import Engine
from .evidence_location import EvidenceLocation
from .explanation_files import collect_images, explain_file, results_to_csv
from .export import FORMATS, export_model, write_bundle
from .fine_graph import RESOLUTIONS, require_resolution, supported_resolutions
from .head import Head
from .image_checks import FieldChecks, check_field
from .image_prediction import FORCED_LABEL, Prediction, TilePrediction
from .input_checks import expected_out_of_distribution_proportion
from .input_reference import Measured
from .layers import LAYERS, OCCLUSION, explain_layer, supported_layers
from .model_card import (
    Architecture,
    CardMetrics,
    ConformalThresholds,
    DecisionThreshold,
    ExplanationChecks,
    ModelCard,
    ModelInput,
    NestedResult,
    PointingResult,
    ProtocolResult,
    RandomizationResult,
    RobustnessRow,
    RobustnessTable,
    Scale,
    SelectivePoint,
    SelectiveSummary,
    SubsetCounts,
    Temperature,
    TrainingData,
    UncertainBand,
    describe_synthetic_training,
)
from .precision import PRECISIONS, fastest_precision, supported_precisions
from .quantization import N_CALIBRATION_IMAGES, measure_parity, quantize
from .scale_check import ScaleEstimator
from .seen_images import choose_samples, find_seen_images
from .tiling import Tile, TilePlan, plan_tiles
from .views import ViewSpread, make_views, predict_views
from .what_if import WhatIf, predict_change

__all__ = [
    "BUNDLED_MODELS_DIR",
    "FORCED_LABEL",
    "FORMATS",
    "KERAS_FILE",
    "LAYERS",
    "N_CALIBRATION_IMAGES",
    "OCCLUSION",
    "PRECISIONS",
    "RESOLUTIONS",
    "Architecture",
    "BatchingEngine",
    "Bundle",
    "CardMetrics",
    "Classifier",
    "ConformalThresholds",
    "DecisionThreshold",
    "Engine",
    "EvidenceLocation",
    "ExplanationChecks",
    "FieldChecks",
    "Head",
    "Measured",
    "ModelCard",
    "ModelInput",
    "NestedResult",
    "PointingResult",
    "Prediction",
    "ProtocolResult",
    "RandomizationResult",
    "RobustnessRow",
    "RobustnessTable",
    "Scale",
    "ScaleEstimator",
    "SelectivePoint",
    "SelectiveSummary",
    "SubsetCounts",
    "Temperature",
    "Tile",
    "TilePlan",
    "TilePrediction",
    "TrainingData",
    "UncertainBand",
    "ViewSpread",
    "WhatIf",
    "bundled_model_dir",
    "check_field",
    "check_files",
    "choose_samples",
    "collect_images",
    "count_reasons",
    "describe_synthetic_training",
    "expected_out_of_distribution_proportion",
    "explain_file",
    "explain_layer",
    "export_model",
    "fastest_precision",
    "file_sha256",
    "find_seen_images",
    "has_bundled_model",
    "list_bundles",
    "load_classifier",
    "make_views",
    "measure_parity",
    "open_bundle",
    "open_bundled_model",
    "plan_tiles",
    "predict_change",
    "predict_files",
    "predict_views",
    "quantize",
    "require_resolution",
    "results_to_csv",
    "supported_layers",
    "supported_precisions",
    "supported_resolutions",
    "write_bundle",
]
