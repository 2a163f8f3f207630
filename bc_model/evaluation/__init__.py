"""Honest figures: metrics with case-clustered intervals, reports and their pictures.

It loads NumPy and pandas only; matplotlib is loaded when a report is written or drawn.
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
