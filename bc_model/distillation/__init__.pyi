from .build import (
    build_bundled_model,
    cross_validate_protocols,
    prepare_networks,
    require_buildable,
)
from .config import DistillationConfig
from .cross_validation import Networks
from .data import TrainingImages
from .demo_model import DemoConfig, build_demo_model
from .features import extract_features
from .input_fit import write_input_files
from .nested_cv import SEARCH_SPACE
from .student import ViewTargets, build_student
from .teacher import LinearTeacher, Teacher, mean_logit
from .view_pool import ViewBatch, ViewSampler

__all__ = [
    "SEARCH_SPACE",
    "DemoConfig",
    "DistillationConfig",
    "LinearTeacher",
    "Networks",
    "Teacher",
    "TrainingImages",
    "ViewBatch",
    "ViewSampler",
    "ViewTargets",
    "build_bundled_model",
    "build_demo_model",
    "build_student",
    "cross_validate_protocols",
    "extract_features",
    "mean_logit",
    "prepare_networks",
    "require_buildable",
    "write_input_files",
]
