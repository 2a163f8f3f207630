"""Metrics with case-clustered intervals, and the reports of evaluations.

The package loads NumPy and pandas only.
"""

from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.report import Report, RocCurve, evaluate_predictions, read_report

__all__ = [
    "Figure",
    "Report",
    "RocCurve",
    "evaluate_predictions",
    "read_report",
]
