"""The later sections of a report: by case, by group, calibration, mistakes, other sets."""

from collections.abc import Iterator

from bc_model.evaluation.by_case import case_table
from bc_model.evaluation.by_group import Group
from bc_model.evaluation.gallery import error_gallery
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.result import Report
from bc_model.export.charts import (
    cases_drawing,
    confusions_drawing,
    intervals_drawing,
    reliability_drawing,
)
from bc_model.export.document import Block, Chart, Charts, Heading, Table, Text
from bc_model.export.tables import figure_table
from bc_model.export.words import (
    CASE_WORDS,
    FIGURE_WORDS,
    GROUP_WORDS,
    cases_words,
    group_figures,
    notes_of,
    support_words,
)

_MOST_CASES = 20


def cases_blocks(report: Report) -> Iterator[Block]:
    """Show the figures by case, and every case."""
    yield Heading("By case")
    if report.by_case is None or report.predictions is None:
        unknown = "no case is known" if report.n_cases == 0 else "every case has both classes"
        yield Text(f"Nothing can be said by case: {unknown}.")
        return
    (tn, fp), (fn, tp) = report.by_case.confusion
    base_rate = (fn + tp) / (tn + fp + fn + tp)
    yield figure_table(report.by_case.figures, CASE_WORDS, base_rate)
    for sentence in notes_of(report.by_case.figures, CASE_WORDS):
        yield Text(sentence, quiet=True)
    cases = case_table(report.predictions, report.threshold)
    yield Charts((Chart("Every case", cases_drawing(cases, report.threshold)),))
    rows = tuple(
        (
            str(row["case"]), str(row["class"]), str(row["called"]), f"{row['mean_prob']:.3f}",
            f"{row['right']} of {row['pictures']}", f"{row['patient_score']:.2f}",
        )
        for _, row in cases.head(_MOST_CASES).iterrows()
    )  # fmt: skip
    columns = ("Case", "Truth", "Called", "Mean probability", "Pictures right", "Patient score")
    yield Table(columns, rows, numeric=(3, 4, 5))
    if len(cases) > _MOST_CASES:
        yield Text(
            f"The {_MOST_CASES} worst of {len(cases)} cases; all are in predictions.csv.",
            quiet=True,
        )


def groups_blocks(report: Report) -> Iterator[Block]:
    """Show the figures of each kind of `GROUP_WORDS`."""
    for kind, (title, head) in GROUP_WORDS.items():
        groups = [group for group in report.groups if group.kind == kind]
        if not groups:
            continue
        main = group_figures(kind)[:2][-1]  # the balanced accuracy where there is one
        yield Heading(title)
        confusions = confusions_drawing([(group.name, group.confusion) for group in groups])
        yield Charts((Chart("Confusion, pictures and % of each class", confusions),))
        rows = [(group.name, group.figures[main]) for group in groups]
        yield Charts((Chart(FIGURE_WORDS[main][0], intervals_drawing(rows)),))
        yield _group_table(groups, kind, head)


def _group_table(groups: list[Group], kind: str, head: str) -> Table:
    names = group_figures(kind)
    rows = tuple(
        (
            group.name, f"{group.n:,}", cases_words(group.n_cases),
            f"{100 * group.base_rate:.0f} %", *(_short(group.figures[name]) for name in names),
        )
        for group in groups
    )  # fmt: skip
    columns = (
        head, "Pictures", "Cases", "Malignant",
        *(FIGURE_WORDS[name][0] for name in names),
    )  # fmt: skip
    widths = (1.4, 0.9, 1.0, 1.0, *(1.7 for _ in names))
    return Table(columns, rows, tuple(range(1, len(columns))), widths)


def _short(figure: Figure) -> str:
    if figure.value is None:
        return "not defined"
    interval = "no interval" if figure.low is None else f"{figure.low:.2f}-{figure.high:.2f}"
    return f"{figure.value:.2f} ({interval})"


def calibration_blocks(report: Report) -> Iterator[Block]:
    """Show whether the probabilities mean what they say."""
    found = report.calibration
    yield Heading("Do the probabilities mean what they say?")
    yield Charts((Chart("Reliability", reliability_drawing(found)),))
    yield Text(
        "Points on the dashed line are honest. Bars below show how many pictures got such a "
        "probability. Intervals are Wilson's at the effective number of cases, since all pictures "
        "of a case share their truth.",
        quiet=True,
    )
    yield Text(
        f"Expected calibration error {found.ece:.3f} with ten bins of equal width and "
        f"{found.ece_equal_count:.3f} with ten of equal count, over "
        f"{support_words(found.n, found.n_cases)}. A perfectly calibrated model would show "
        f"{found.ece_by_chance:.3f} and {found.ece_equal_count_by_chance:.3f} on as many "
        "independent pictures, and more on pictures that come in cases: the error is never 0.",
    )


def mistakes_blocks(report: Report) -> Iterator[Block]:
    """Show the surest mistakes, by case."""
    if report.predictions is None:
        return
    mistakes = error_gallery(report.predictions, threshold=report.threshold, per_case=2).mistakes
    yield Heading("Surest mistakes")
    if not mistakes:
        yield Text("No picture was called wrong.")
        return
    meaning = "Probability: estimated probability of malignancy."
    if report.n_cases == 0:
        pictures = tuple(
            (one.class_name, f"{entry.prob_malignant:.3f}", entry.path)
            for one in mistakes
            for entry in one.worst
        )
        yield Table(("Truth", "Probability", "Picture"), pictures, (1,), (1.0, 1.1, 6.9))
        yield Text(f"The surest mistake first. {meaning}", quiet=True)
        return
    rows = tuple(
        (
            one.case or "unknown", one.class_name,
            f"{one.n_wrong} of {one.n}" if one.case else "unknown",
            f"{entry.prob_malignant:.3f}", entry.path,
        )
        for one in mistakes
        for entry in one.worst
    )  # fmt: skip
    columns = ("Case", "Truth", "Wrong in case", "Probability", "Picture")
    yield Table(columns, rows, numeric=(2, 3), widths=(1.0, 1.0, 1.25, 1.1, 4.7))
    yield Text(
        f"Two pictures a case, the case with the surest mistake first. {meaning}", quiet=True
    )


def shift_blocks(report: Report) -> Iterator[Block]:
    """Show how the stain of another set differs; its words are among the notes of the report."""
    found = report.shift
    if found is None or not found.stain:
        return
    yield Heading("Stain, held against the model's own pictures")
    rows = tuple(
        (
            one.words,
            f"{one.known_mean:.3f}", f"{one.known_sd:.3f}", f"{one.mean:.3f}", f"{one.sd:.3f}",
            f"{one.distance:+.1f}",
        )
        for one in found.stain
    )  # fmt: skip
    columns = (
        "Optical density", "Model's own", "spread", "This set", "spread", "Distance in spreads",
    )  # fmt: skip
    yield Table(columns, rows, numeric=(1, 2, 3, 4, 5), widths=(1.9, 1, 1, 1, 1, 1.5))
    yield Text(
        f"The model's own are {support_words(found.known_n, found.known_cases)} of its validation "
        "part.",
        quiet=True,
    )
