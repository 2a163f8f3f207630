"""What figures are called, and what they mean, in a few words each."""

from bc_model.evaluation.intervals import Figure

FIGURE_WORDS = {
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity"),
    "sensitivity": ("Sensitivity", "share of malignant pictures called malignant"),
    "specificity": ("Specificity", "share of benign pictures called benign"),
    "accuracy": ("Accuracy", "share of pictures called right"),
    "f1": ("F1", "harmonic mean of sensitivity and precision"),
    "mcc": ("Matthews correlation", "of truth and verdict, -1 to 1; 0 is chance"),
    "roc_auc": ("ROC AUC", "chance that a malignant picture ranks above a benign one"),
    "average_precision": ("Average precision", "area under precision-recall; chance: base rate"),
    "brier": ("Brier score", "squared error of the probabilities; lower is better"),
    "log_loss": ("Log loss", "cross-entropy of the probabilities; lower is better"),
}
CASE_WORDS = {
    "recognition_rate": ("Recognition rate", "mean over cases of the share of pictures right"),
    "accuracy": ("Accuracy", "share of cases called right by their mean probability"),
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity"),
    "sensitivity": ("Sensitivity", "share of malignant cases called malignant"),
    "specificity": ("Specificity", "share of benign cases called benign"),
    "roc_auc": ("ROC AUC", "chance that a malignant case ranks above a benign one"),
}

GROUP_WORDS = {
    "known": ("By what the model knows", "Part"),
    "magnification": ("By magnification", "Magnification"),
    "subtype": ("By subtype", "Subtype"),
}
"""Parts of the pictures: a title, and what heads the column of their names."""

RESEARCH_USE = "Research use only, not a diagnosis"


def group_figures(kind: str) -> tuple[str, ...]:
    """Name the figures that are shown of each part, in their order.

    A subtype has one class, so that its accuracy is all there is to say.
    """
    names = ("accuracy", "balanced_accuracy", "roc_auc")
    return names[:1] if kind == "subtype" else names


def value_words(figure: Figure, digits: int = 3) -> str:
    """Return the value, or that it is not defined."""
    return "not defined" if figure.value is None else f"{figure.value:.{digits}f}"


def interval_words(figure: Figure, digits: int = 3) -> str:
    """Return the interval, or that there is none."""
    if figure.low is None or figure.high is None:
        return "none"
    return f"{figure.low:.{digits}f} to {figure.high:.{digits}f}"


def cases_words(n: int) -> str:
    """Return a number of cases, which is 0 where none is known."""
    return str(n) if n else "unknown"


def support_words(n: int, n_cases: int) -> str:
    """Return pictures and cases, such as '120 pictures, 8 cases'."""
    pictures = "1 picture" if n == 1 else f"{n:,} pictures"
    cases = "cases unknown" if n_cases == 0 else "1 case" if n_cases == 1 else f"{n_cases} cases"
    return f"{pictures}, {cases}"


def notes_of(figures: dict[str, Figure], words: dict[str, tuple[str, str]]) -> list[str]:
    """Return one sentence for each reason that figures carry, with the figures it is about."""
    told: dict[str, list[str]] = {}
    for name, (title, _) in words.items():
        figure = figures.get(name)
        if figure is not None and figure.note:
            lead = "not defined: " if figure.value is None else ""
            lead = "no interval: " if figure.value is not None and figure.low is None else lead
            told.setdefault(lead + figure.note, []).append(title)
    return [f"{', '.join(titles)}: {note}." for note, titles in told.items()]
