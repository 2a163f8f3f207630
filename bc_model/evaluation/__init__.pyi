from .bootstrap import CaseSample, Functional, studentised
from .calibrate_model import calibrated_by, read_validation
from .calibration import Reliability
from .checks import TOO_GOOD
from .comparison import Comparison, Conclusion, Difference, Side, check_multiplicity, compare
from .cross_validation import check_nested, cross_validation_report, is_cross_validated
from .domain_shift import Shift
from .error_analysis import (
    CaseMistakes,
    Entry,
    Gallery,
    Neighbor,
    error_gallery,
    kept_training_features,
    neighbors_of,
    training_features,
)
from .estimates import functional_of
from .evaluate import evaluate_predictions, evaluate_split
from .external import evaluate_external
from .features import FeatureTable
from .intervals import predictive_values
from .metrics import Floats, all_metrics
from .predictions import predictions_to_csv, read_predictions
from .published_results import PUBLISHED, PublishedRange
from .report import Report, RocCurve, read_report, report_files, report_json
from .subgroups import Confusion, Group, case_table
from .thresholds import (
    ThresholdChoice,
    Trial,
    change_model_card,
    choose_threshold,
    evaluation_of,
    require_evaluation,
    set_threshold,
    try_threshold,
)

__all__ = [
    "PUBLISHED",
    "TOO_GOOD",
    "CaseMistakes",
    "CaseSample",
    "Comparison",
    "Conclusion",
    "Confusion",
    "Difference",
    "Entry",
    "FeatureTable",
    "Floats",
    "Functional",
    "Gallery",
    "Group",
    "Neighbor",
    "PublishedRange",
    "Reliability",
    "Report",
    "RocCurve",
    "Shift",
    "Side",
    "ThresholdChoice",
    "Trial",
    "all_metrics",
    "calibrated_by",
    "case_table",
    "change_model_card",
    "check_multiplicity",
    "check_nested",
    "choose_threshold",
    "compare",
    "cross_validation_report",
    "error_gallery",
    "evaluate_external",
    "evaluate_predictions",
    "evaluate_split",
    "evaluation_of",
    "functional_of",
    "is_cross_validated",
    "kept_training_features",
    "neighbors_of",
    "predictions_to_csv",
    "predictive_values",
    "read_predictions",
    "read_report",
    "read_validation",
    "report_files",
    "report_json",
    "require_evaluation",
    "set_threshold",
    "studentised",
    "training_features",
    "try_threshold",
]
