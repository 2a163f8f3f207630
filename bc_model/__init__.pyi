from .checks import Check, Severity
from .contribution_map import ContributionMap, overlay_signed_map
from .data import count_leakage, load_dataset, make_split, read_image
from .data.declared_scale import DeclaredScale
from .evaluation.comparison import compare_models
from .evaluation.evaluate import evaluate
from .evaluation.external import evaluate_external
from .evaluation.report import EvaluationReport
from .gradcam import GradCAM, Heatmap, grad_cam_from_activations, overlay_heatmap
from .inference import Classifier, Prediction, load_classifier
from .model import build_model, freeze_backbone, unfreeze_from
from .reporting import save_report
from .training import TrainingConfig, train

__all__ = [
    "Check",
    "Classifier",
    "ContributionMap",
    "DeclaredScale",
    "EvaluationReport",
    "GradCAM",
    "Heatmap",
    "Prediction",
    "Severity",
    "TrainingConfig",
    "build_model",
    "compare_models",
    "count_leakage",
    "evaluate",
    "evaluate_external",
    "freeze_backbone",
    "grad_cam_from_activations",
    "load_classifier",
    "load_dataset",
    "make_split",
    "overlay_heatmap",
    "overlay_signed_map",
    "read_image",
    "save_report",
    "train",
    "unfreeze_from",
]

__version__: str
