"""Labels and meanings of metrics, and values, intervals and counts as text."""

from bc_model.utils.measurement import Metric

METRIC_LABELS = {
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity"),
    "sensitivity": ("Sensitivity", "proportion of malignant images predicted malignant"),
    "specificity": ("Specificity", "proportion of benign images predicted benign"),
    "accuracy": ("Accuracy", "proportion of correct images"),
    "f1": ("F1", "harmonic mean of sensitivity and precision"),
    "mcc": ("Matthews correlation", "of true and predicted class, -1 to 1; chance: 0"),
    "roc_auc": ("ROC AUC", "probability that a malignant image ranks above a benign one"),
    "average_precision": ("Average precision", "area under precision-recall; chance: base rate"),
    "brier": ("Brier score", "squared error of the probabilities; lower is better"),
    "log_loss": ("Log loss", "cross-entropy of the probabilities; lower is better"),
}
"""Label and meaning of each metric by image."""

CASE_METRIC_LABELS = {
    "recognition_rate": ("Recognition rate", "mean over cases of the proportion of correct images"),
    "accuracy": ("Accuracy", "proportion of correct cases, by mean probability"),
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity"),
    "sensitivity": ("Sensitivity", "proportion of malignant cases predicted malignant"),
    "specificity": ("Specificity", "proportion of benign cases predicted benign"),
    "roc_auc": ("ROC AUC", "probability that a malignant case ranks above a benign one"),
}
"""Label and meaning of each metric by case."""

SUBGROUP_LABELS = {
    "seen": ("Images seen in training", "Images"),
    "magnification": ("By magnification", "Magnification"),
    "subtype": ("By subtype", "Subtype"),
}
"""Title and column header of each kind of subgroup."""

RESEARCH_USE = "Research use only, not a diagnosis"


def subgroup_metrics(kind: str) -> tuple[str, ...]:
    """Return the names of the metrics to show for a kind of subgroup, in order.

    A subtype has one class, so only its accuracy is defined.

    Examples
    --------
    >>> subgroup_metrics("subtype")
    ('accuracy',)
    """
    names = ("accuracy", "balanced_accuracy", "roc_auc")
    return names[:1] if kind == "subtype" else names


def format_value(metric: Metric, digits: int = 3) -> str:
    """Return the value as text, or 'not defined'."""
    return "not defined" if metric.value is None else f"{metric.value:.{digits}f}"


def format_interval(metric: Metric, digits: int = 3) -> str:
    """Return the 95 % interval as text, or 'none'."""
    if metric.ci_low is None or metric.ci_high is None:
        return "none"
    return f"{metric.ci_low:.{digits}f} to {metric.ci_high:.{digits}f}"


def format_case_count(n: int) -> str:
    """Return a number of cases as text, or 'unknown' for 0."""
    return str(n) if n else "unknown"


def format_support(n: int, n_cases: int) -> str:
    """Return the numbers of images and known cases as text.

    Examples
    --------
    >>> format_support(120, 8), format_support(1, 0)
    ('120 images, 8 cases', '1 image, cases unknown')
    """
    images = "1 image" if n == 1 else f"{n:,} images"
    cases = "cases unknown" if n_cases == 0 else "1 case" if n_cases == 1 else f"{n_cases} cases"
    return f"{images}, {cases}"


def metric_notes(metrics: dict[str, Metric], labels: dict[str, tuple[str, str]]) -> list[str]:
    """Return one sentence for each note of the metrics, with the labels of these metrics.

    Parameters
    ----------
    metrics : dict of str to Metric
    labels : dict of str to (str, str)
        Label and meaning of the metrics to include, such as `METRIC_LABELS`.
    """
    titles_of: dict[str, list[str]] = {}
    for name, (title, _) in labels.items():
        metric = metrics.get(name)
        if metric is not None and metric.note:
            problem = "no interval: " if metric.ci_low is None else ""
            problem = "not defined: " if metric.value is None else problem
            titles_of.setdefault(problem + metric.note, []).append(title)
    return [f"{', '.join(titles)}: {note}." for note, titles in titles_of.items()]
