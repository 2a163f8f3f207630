"""Tables of figures, alike in every section."""

from bc_model.evaluation.intervals import Figure
from bc_model.export.document import Table
from bc_model.export.words import cases_words, interval_words, value_words

_WIDTHS = (1.75, 0.9, 1.35, 0.95, 1.05, 3.3)


def figure_table(
    figures: dict[str, Figure], words: dict[str, tuple[str, str]], base_rate: float
) -> Table:
    """Return figures with interval, pictures, cases and meaning; the base rate beside accuracy.

    Parameters
    ----------
    figures : dict of str to Figure
    words : dict of str to (str, str)
        Title and meaning of each figure that is shown, in this order.
    base_rate : float
        Accuracy of calling all malignant.
    """
    beside = {"accuracy": f"; calling all malignant: {base_rate:.3f}"}
    rows = tuple(
        (
            title,
            value_words(figures[name]),
            interval_words(figures[name]),
            f"{figures[name].n:,}",
            cases_words(figures[name].n_cases),
            meaning + beside.get(name, ""),
        )
        for name, (title, meaning) in words.items()
        if name in figures
    )
    columns = ("Figure", "Value", "95 % interval", "Pictures", "Cases", "What it is")
    return Table(columns, rows, numeric=(1, 2, 3, 4), widths=_WIDTHS)
