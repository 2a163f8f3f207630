from .augmentation import ViewSampler
from .build import (
    build_bundled_model,
    cross_validate_protocols,
    nested_cross_validate,
    train_on_all,
)
from .config import NESTED_NETWORKS, DistillationConfig
from .data import TrainingImages
from .features import extract_features
from .nested_cv import SEARCH_SPACE, nested_configs, proxy_config
from .student import build_student
from .teacher import Teacher

__all__ = [
    "NESTED_NETWORKS",
    "SEARCH_SPACE",
    "DistillationConfig",
    "Teacher",
    "TrainingImages",
    "ViewSampler",
    "build_bundled_model",
    "build_student",
    "cross_validate_protocols",
    "extract_features",
    "nested_configs",
    "nested_cross_validate",
    "proxy_config",
    "train_on_all",
]
