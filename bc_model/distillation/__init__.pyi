from .build import (
    build_bundled_model,
    cross_validate_protocols,
    nested_cross_validate,
    prepare_networks,
    require_buildable,
)
from .config import DistillationConfig
from .cross_validation import Networks
from .data import TrainingImages
from .features import extract_features
from .last_layer import LastLayer, PooledActivations
from .left_out import measure_left_out
from .nested_cv import SEARCH_SPACE
from .student import ViewTargets, build_student
from .teacher import LinearTeacher, Teacher, mean_logit
from .view_pool import ViewBatch, ViewPool, ViewSampler

__all__ = [
    "SEARCH_SPACE",
    "DistillationConfig",
    "LastLayer",
    "LinearTeacher",
    "Networks",
    "PooledActivations",
    "Teacher",
    "TrainingImages",
    "ViewBatch",
    "ViewPool",
    "ViewSampler",
    "ViewTargets",
    "build_bundled_model",
    "build_student",
    "cross_validate_protocols",
    "extract_features",
    "mean_logit",
    "measure_left_out",
    "nested_cross_validate",
    "prepare_networks",
    "require_buildable",
]
