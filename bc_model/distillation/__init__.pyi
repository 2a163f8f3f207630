from .augmentation import ViewSampler
from .build import judge, judge_choosing, learn_all, make_box
from .config import INSIDE, Recipe
from .data import Source
from .features import describe
from .nested_cv import MENU, probe_of, recipes_inside
from .student import prepare
from .teacher import Teacher

__all__ = [
    "INSIDE",
    "MENU",
    "Recipe",
    "Source",
    "Teacher",
    "ViewSampler",
    "describe",
    "judge",
    "judge_choosing",
    "learn_all",
    "make_box",
    "prepare",
    "probe_of",
    "recipes_inside",
]
