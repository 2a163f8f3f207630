"""The figures of a report: by picture, by case, and of parts of the pictures, each with its n."""

import streamlit as st

from app.components.frame import escape, listed
from app.components.report_charts import (
    confusion_chart,
    confusion_in_words,
    group_chart,
    pr_chart,
    roc_chart,
)
from bc_model.evaluation.by_case import case_table
from bc_model.evaluation.by_group import Group
from bc_model.evaluation.intervals import Figure
from bc_model.evaluation.report import Report
from bc_model.export.words import (
    CASE_WORDS,
    FIGURE_WORDS,
    GROUP_WORDS,
    cases_words,
    group_figures,
    interval_words,
    notes_of,
    support_words,
    value_words,
)

_COUNTED = {"Pictures": st.column_config.NumberColumn(format="localized")}
TABLE_COLUMNS = ("Figure", "Value", "95 % interval", "Pictures", "Cases")
ONE_CLASS = "Not defined: the pictures are of one class only."


def draw_warnings(report: Report) -> None:
    """Draw what must be read before the figures."""
    sentences = listed(report.warnings)
    if report.leaky:
        st.error(sentences, title=f"Leaky: {escape(report.protocol)}")
    elif sentences:
        st.warning(sentences)
    if report.notes:
        st.info(listed(report.notes), icon=":material/info:")


def draw_figures(report: Report) -> None:
    """Draw every figure, the confusion matrices and the curves of a report."""
    by_picture, by_case = st.columns(2, gap="large")
    with by_picture:
        st.header("Confusion by picture", anchor=False)
        st.altair_chart(confusion_chart(report.confusion), alt=confusion_in_words(report.confusion))
        st.caption(f"{support_words(report.n, report.n_cases)}. Cut-off {report.threshold:.2f}.")
    with by_case:
        st.header("Confusion by case", anchor=False)
        if report.by_case is None:
            st.info(_why_no_case(report), icon=":material/info:")
        else:
            confusion = report.by_case.confusion
            st.altair_chart(confusion_chart(confusion), alt=confusion_in_words(confusion))
            st.caption(
                f"{sum(map(sum, confusion))} cases, each called by the mean probability of its "
                "pictures."
            )
    st.header("Figures by picture", anchor=False)
    draw_table(report.figures, FIGURE_WORDS, report.base_rate)
    drawn = "cases" if report.n_cases else "pictures: no case is known, so they are too narrow"
    st.caption(
        f"Calling all {report.n:,} pictures malignant would be right for "
        f"{report.always_malignant_accuracy:.0%} of them: hold accuracy against this base rate. "
        f"Intervals are 95 %, by bootstrap over {drawn}."
    )
    if report.by_case is not None:
        st.header("Figures by case", anchor=False)
        (tn, fp), (fn, tp) = report.by_case.confusion
        draw_table(report.by_case.figures, CASE_WORDS, (fn + tp) / (tn + fp + fn + tp))
        _draw_every_case(report)
    _draw_curves(report)
    for kind, (title, head) in GROUP_WORDS.items():
        groups = [group for group in report.groups if group.kind == kind]
        if groups:
            st.header(title, anchor=False)
            _draw_groups(groups, kind, head)


def draw_table(
    figures: dict[str, Figure],
    words: dict[str, tuple[str, str]],
    base_rate: float | None = None,
    *,
    meanings: bool = True,
) -> None:
    """Draw figures as a table, and below it why some have no value or no interval.

    Parameters
    ----------
    figures : dict of str to Figure
    words : dict of str to (title, meaning)
        Which of them to show, in that order.
    base_rate : float, optional
        Share of malignant ones; shown below accuracy.
    meanings : bool, default=True
        Say of each figure what it means; not where room is scarce.
    """
    rows = []
    for name, (title, meaning) in words.items():
        if name not in figures:
            continue
        figure = figures[name]
        rows.append(
            {
                "Figure": title,
                "Value": value_words(figure, 2),
                "95 % interval": interval_words(figure, 2),
                "Pictures": figure.n,
                "Cases": cases_words(figure.n_cases),
                "Meaning": meaning,
            }
        )
        if name == "accuracy" and base_rate is not None:
            calling_all = {"Figure": "Base rate", "Value": f"{base_rate:.2f}"}
            told = {"95 % interval": "none", "Meaning": "accuracy of calling all malignant"}
            rows.append(rows[-1] | calling_all | told)
    st.dataframe(
        rows,
        hide_index=True,
        height="content",
        column_order=None if meanings else TABLE_COLUMNS,
        column_config=_COUNTED | {"Meaning": st.column_config.TextColumn(width="large")},
        alt="Figures with interval, pictures and cases",
    )
    for sentence in notes_of(figures, words):
        st.caption(escape(sentence))


def _draw_every_case(report: Report) -> None:
    if report.predictions is None:
        return
    table = case_table(report.predictions, report.threshold)
    with st.expander("Every case, the worst first", icon=":material/table:"):
        st.dataframe(
            table.rename(
                columns={
                    "case": "Case",
                    "class": "Truth",
                    "pictures": "Pictures",
                    "right": "Called right",
                    "patient_score": "Patient score",
                    "mean_prob": "Mean probability",
                    "called": "Case called",
                }
            ),
            hide_index=True,
            column_config={
                name: st.column_config.NumberColumn(format="%.2f")
                for name in ("Patient score", "Mean probability")
            },
            alt="Truth, pictures, patient score and call of every case",
        )
        st.caption(
            "Patient score: share of the case's pictures called right. Their mean over cases is "
            "the recognition rate."
        )


def _draw_curves(report: Report) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.header("ROC curve", anchor=False)
        if report.roc is None:
            st.info(ONE_CLASS, icon=":material/info:")
        else:
            area = report.figures["roc_auc"]
            st.altair_chart(roc_chart(report), alt=f"Sensitivity against 1 - specificity, {area}")
            st.caption(f"AUC {escape(str(area))}. The dot is the cut-off; dashed is chance.")
    with right:
        st.header("Precision and sensitivity", anchor=False)
        if report.pr is None:
            st.info(ONE_CLASS, icon=":material/info:")
        else:
            area = report.figures["average_precision"]
            st.altair_chart(pr_chart(report), alt=f"Precision against sensitivity, {area}")
            st.caption(f"Area {escape(str(area))}. Dashed is chance: the base rate.")


def _draw_groups(groups: list[Group], kind: str, head: str) -> None:
    alt = ". ".join(f"{one.name}: {confusion_in_words(one.confusion)}" for one in groups)
    st.altair_chart(group_chart(groups), alt=alt)
    names = group_figures(kind)
    rows = []
    for group in groups:
        row = {
            head: group.name,
            "Pictures": group.n,
            "Cases": cases_words(group.n_cases),
            "Base rate": f"{group.base_rate:.2f}",
        }
        for name in names:
            figure = group.figures[name]
            row[FIGURE_WORDS[name][0]] = (
                value_words(figure, 2)
                if figure.low is None
                else f"{value_words(figure, 2)} ({interval_words(figure, 2)})"
            )
        rows.append(row)
    st.dataframe(
        rows,
        hide_index=True,
        column_config=_COUNTED,
        alt=f"Figures of each part ({head.lower()}), with 95 % intervals",
    )
    st.caption("In brackets 95 % intervals.")
    reasons = {
        f"{group.name}: {sentence}"
        for group in groups
        for sentence in notes_of(group.figures, {name: FIGURE_WORDS[name] for name in names})
    }
    if reasons:
        with st.expander("Why some have no value or no interval", icon=":material/info:"):
            st.markdown(listed(sorted(reasons)))


def _why_no_case(report: Report) -> str:
    why = "no case is known" if report.n_cases == 0 else "every case has pictures of both classes"
    return f"Nothing can be said by case: {why}."
