"""Selective prediction: the uncertain range of a model, and the errors outside of it."""

from __future__ import annotations

import streamlit as st

from app.components.layout import escape_markdown
from bc_model.evaluation import EvaluationReport, measure_band, risk_coverage
from bc_model.inference import Bundle, SelectivePoint, SelectiveSummary
from bc_model.utils import Metric

_CURRENT, _CROSS_FITTED = "current range", "range of other cases"


def show_selective(summary: SelectiveSummary) -> None:
    """Show the uncertain range of a model card in a few sentences, and its curve on demand."""
    marks = {}
    if band := summary.band:
        coverage, risk = band.cross_fitted_coverage, band.cross_fitted_risk
        marks = {
            name: (pair[0].value, pair[1].value)
            for name, pair in (
                (_CURRENT, (band.coverage, band.risk)),
                (_CROSS_FITTED, (coverage, risk)),
            )
            if pair[0].value is not None and pair[1].value is not None
        }
        st.markdown(
            f"The outcome is uncertain between the probabilities {band.low:.2f} and "
            f"{band.high:.2f}. For cases that did not fit the range, "
            f"{_describe(coverage)} of the images have a class, with an error rate of "
            f"{_describe(risk)}; {summary.n_images:,} images of {summary.n_cases} cases."
        )
    for check in summary.checks:
        st.markdown(escape_markdown(check.message))
    if st.toggle("Error rate curve", key="show-selective", help="Errors for other ranges."):
        _show_curve(summary.curve, marks)
        st.caption(
            f"Band: 95 % interval over cases. Measured on {escape_markdown(summary.images)}, each "
            "case counted once."
        )


def show_selective_report(report: EvaluationReport, bundle: Bundle) -> None:
    """Show the curve of the evaluated images, with the uncertain range of the model."""
    assert report.predictions is not None, "read_report reads the predictions or fails"
    band = bundle.uncertain_band
    curve, measured = _compute(bundle.key, report.threshold, band, len(report.predictions), report)
    marks = {}
    if measured is None:
        st.markdown("The model has no uncertain range, so every image has a class.")
    else:
        assert band is not None
        coverage, risk = measured
        if coverage.value is not None and risk.value is not None:
            marks[_CURRENT] = coverage.value, risk.value
        st.markdown(
            f"Uncertain between {band[0]:.2f} and {band[1]:.2f}. Proportion of images with a "
            f"class: {escape_markdown(str(coverage))}. Error rate of these images: "
            f"{escape_markdown(str(risk))}."
        )
        if bundle.trained_on_all_images:
            st.caption("The range was fitted on these images, so its error rate is optimistic.")
    _show_curve(curve, marks)
    st.caption("Band: 95 % interval over cases. Each case counts once.")


@st.cache_resource(max_entries=8, show_spinner="Computing intervals")
def _compute(
    bundle_key: str,
    threshold: float,
    band: tuple[float, float] | None,
    n_images: int,
    _report: EvaluationReport,
) -> tuple[tuple[SelectivePoint, ...], tuple[Metric, Metric] | None]:
    predictions = _report.predictions
    assert predictions is not None
    curve = risk_coverage(
        predictions["class"] == "malignant", predictions["prob_malignant"], predictions["case"],
        threshold=threshold,
    )  # fmt: skip
    if band is None:
        return curve, None
    return curve, measure_band(predictions, band, threshold=threshold)


def _show_curve(curve: tuple[SelectivePoint, ...], marks: dict[str, tuple[float, float]]) -> None:
    # Imported late, because the first page does not need the chart library.
    from app.components.charts import chart_selective

    st.altair_chart(
        chart_selective(curve, marks),
        alt=f"Error rate against the proportion of images with a class: {curve[-1].risk:.3f} for "
        f"all images, {curve[0].risk:.3f} for the {curve[0].n_images:,} most certain",
    )


def _describe(metric: Metric) -> str:
    if metric.value is None:
        return "an unknown proportion"
    interval = (
        "no interval"
        if metric.ci_low is None
        else (f"95 % CI {metric.ci_low:.2f} to {metric.ci_high:.2f}")
    )
    return f"{metric.value:.2f} ({interval})"
