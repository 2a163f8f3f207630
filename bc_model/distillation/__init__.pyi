from .augmentation import ViewSampler
from .build import build_bundled_model, judge, judge_choosing, learn_all
from .config import INSIDE, DistillationConfig
from .data import Source
from .features import describe
from .nested_cv import SEARCH_SPACE, proxy_of, recipes_inside
from .student import prepare
from .teacher import Teacher

__all__ = [
    "INSIDE",
    "SEARCH_SPACE",
    "DistillationConfig",
    "Source",
    "Teacher",
    "ViewSampler",
    "build_bundled_model",
    "describe",
    "judge",
    "judge_choosing",
    "learn_all",
    "prepare",
    "proxy_of",
    "recipes_inside",
]
