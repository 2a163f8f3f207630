from .bootstrap import CaseSample, Functional, bootstrap_t
from .calibration import CalibrationResult, fit_bundle_temperature, read_validation_predictions
from .checks import MAX_PLAUSIBLE
from .comparison import (
    ComparedModel,
    Comparison,
    Conclusion,
    Difference,
    check_multiplicity,
    compare_models,
    compare_predictions,
)
from .cross_validation import check_nested, cross_validation_report, is_cross_validated
from .demo import (
    DEMO_MODEL_NAME,
    DEMO_NOTICE,
    DemoResult,
    DemoSample,
    draw_demo_sample,
    evaluate_demo_sample,
    make_demo_samples,
    score_pointing,
)
from .domain_shift import DomainShift
from .error_analysis import (
    CaseErrors,
    ErrorGallery,
    GalleryImage,
    Neighbor,
    build_error_gallery,
    compute_training_features,
    find_neighbors,
    read_training_features,
)
from .estimates import metric_functional
from .evaluate import evaluate_predictions, evaluate_split
from .explanation_checks import (
    check_explanations,
    compare_randomized,
    make_mosaics,
    measure_pointing,
    random_weights,
)
from .external import evaluate_external
from .faithfulness import Faithfulness, measure_faithfulness, measure_prediction_faithfulness
from .features import FeatureTable
from .intervals import predictive_values
from .metrics import Floats, all_metrics, majority_baseline
from .perturbations import PERTURBATIONS, Perturbation
from .predictions import predictions_to_csv, read_predictions
from .published_results import PUBLISHED_RESULTS, PublishedRange
from .report import EvaluationReport, read_report, report_files, report_json
from .robustness import evaluate_robustness, predict_perturbed, robustness_table
from .selective import (
    fit_conformal,
    fit_uncertain_band,
    measure_band,
    risk_coverage,
    summarize_selective,
)
from .subgroups import Confusion, Subgroup, case_table
from .thresholds import (
    ThresholdChoice,
    ThresholdResult,
    choose_threshold,
    evaluate_threshold,
    find_evaluation_dir,
    require_evaluation,
    set_threshold,
    update_model_card,
)

__all__ = [
    "DEMO_MODEL_NAME",
    "DEMO_NOTICE",
    "MAX_PLAUSIBLE",
    "PERTURBATIONS",
    "PUBLISHED_RESULTS",
    "CalibrationResult",
    "CaseErrors",
    "CaseSample",
    "ComparedModel",
    "Comparison",
    "Conclusion",
    "Confusion",
    "DemoResult",
    "DemoSample",
    "Difference",
    "DomainShift",
    "ErrorGallery",
    "EvaluationReport",
    "Faithfulness",
    "FeatureTable",
    "Floats",
    "Functional",
    "GalleryImage",
    "Neighbor",
    "Perturbation",
    "PublishedRange",
    "Subgroup",
    "ThresholdChoice",
    "ThresholdResult",
    "all_metrics",
    "bootstrap_t",
    "build_error_gallery",
    "case_table",
    "check_explanations",
    "check_multiplicity",
    "check_nested",
    "choose_threshold",
    "compare_models",
    "compare_predictions",
    "compare_randomized",
    "compute_training_features",
    "cross_validation_report",
    "draw_demo_sample",
    "evaluate_demo_sample",
    "evaluate_external",
    "evaluate_predictions",
    "evaluate_robustness",
    "evaluate_split",
    "evaluate_threshold",
    "find_evaluation_dir",
    "find_neighbors",
    "fit_bundle_temperature",
    "fit_conformal",
    "fit_uncertain_band",
    "is_cross_validated",
    "majority_baseline",
    "make_demo_samples",
    "make_mosaics",
    "measure_band",
    "measure_faithfulness",
    "measure_pointing",
    "measure_prediction_faithfulness",
    "metric_functional",
    "predict_perturbed",
    "predictions_to_csv",
    "predictive_values",
    "random_weights",
    "read_predictions",
    "read_report",
    "read_training_features",
    "read_validation_predictions",
    "report_files",
    "report_json",
    "require_evaluation",
    "risk_coverage",
    "robustness_table",
    "score_pointing",
    "set_threshold",
    "summarize_selective",
    "update_model_card",
]
