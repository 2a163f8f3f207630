from .bootstrap import CaseSample, Functional, studentised
from .calibrate_model import calibrated_by, read_validation
from .calibration import Reliability
from .checks import TOO_GOOD
from .comparison import Comparison, Conclusion, Difference, Side, check_multiplicity, compare
from .cross_validation import check_nested, crossed_report, is_crossed
from .domain_shift import Shift
from .error_analysis import (
    CaseMistakes,
    Entry,
    Gallery,
    Neighbour,
    error_gallery,
    kept_training_features,
    neighbours_of,
    training_features,
)
from .estimates import functional_of
from .evaluate import evaluate_predictions, evaluate_split
from .external import evaluate_unseen
from .features import FeatureTable
from .intervals import predictive_values
from .metrics import Floats, all_metrics
from .predictions import predictions_to_csv, read_predictions
from .published_results import PUBLISHED, Band
from .report import Report, RocCurve, read_report, report_files, report_json
from .subgroups import Confusion, Group, case_table
from .thresholds import (
    Cutoff,
    Trial,
    change_model_card,
    choose_cutoff,
    evaluation_of,
    lock_threshold,
    require_evaluation,
    try_cutoff,
)

__all__ = [
    "PUBLISHED",
    "TOO_GOOD",
    "Band",
    "CaseMistakes",
    "CaseSample",
    "Comparison",
    "Conclusion",
    "Confusion",
    "Cutoff",
    "Difference",
    "Entry",
    "FeatureTable",
    "Floats",
    "Functional",
    "Gallery",
    "Group",
    "Neighbour",
    "Reliability",
    "Report",
    "RocCurve",
    "Shift",
    "Side",
    "Trial",
    "all_metrics",
    "calibrated_by",
    "case_table",
    "change_model_card",
    "check_multiplicity",
    "check_nested",
    "choose_cutoff",
    "compare",
    "crossed_report",
    "error_gallery",
    "evaluate_predictions",
    "evaluate_split",
    "evaluate_unseen",
    "evaluation_of",
    "functional_of",
    "is_crossed",
    "kept_training_features",
    "lock_threshold",
    "neighbours_of",
    "predictions_to_csv",
    "predictive_values",
    "read_predictions",
    "read_report",
    "read_validation",
    "report_files",
    "report_json",
    "require_evaluation",
    "studentised",
    "training_features",
    "try_cutoff",
]
