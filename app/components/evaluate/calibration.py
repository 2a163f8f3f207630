"""Calibration of the estimated probabilities: reliability diagram and error."""

import streamlit as st

from app.components.charts import reliability_chart
from app.components.layout import escape
from app.components.metric_table import METRIC_COLUMNS, make_frame
from bc_model.evaluation import EvaluationReport, is_cross_validated
from bc_model.inference import Bundle


def draw_calibration(report: EvaluationReport, bundle: Bundle) -> None:
    """Draw the reliability diagram of a report beside its expected calibration error."""
    found = report.calibration
    chart, values = st.columns([3, 2], gap="large")
    with chart:
        st.altair_chart(
            reliability_chart(found),
            alt="Proportion of malignant images against the estimated probability of malignancy, "
            f"in {len(found.bins)} bins",
        )
        st.caption(
            "Dashed line: perfect calibration. Bars: 95 % intervals. Dot area: number of images."
        )
    with values:
        st.metric("Expected calibration error", f"{found.ece:.3f}")
        st.caption(
            f"Expected by chance for perfect calibration: {found.ece_if_calibrated:.3f}. With bins of "
            f"equal count: {found.ece_equal_count:.3f} (by chance "
            f"{found.ece_equal_count_if_calibrated:.3f})."
        )
        temperature = bundle.card.temperature
        st.caption(
            f"Temperature {temperature.value:.2f}: {escape(temperature.method)}."
            + (
                " Each fold shown here has its own temperature, fitted on the other folds."
                * is_cross_validated(bundle)
            )
        )
        for name, title in (("brier", "Brier score"), ("log_loss", "Log loss")):
            st.caption(f"{title} {escape(str(report.metrics[name]))}. Lower is better.")
    with st.expander("Bins", icon=":material/table:"):
        st.dataframe(
            make_frame(
                [
                    {
                        "Bin from": one.prob_low,
                        "Bin to": one.prob_high,
                        "Mean probability": one.mean_prob,
                        "Malignant": one.observed.value,
                        "CI low": one.observed.ci_low,
                        "CI high": one.observed.ci_high,
                        "Images": one.observed.n_images,
                        "Cases": one.observed.n_cases or None,
                    }
                    for one in found.bins
                ]
            ),
            hide_index=True,
            placeholder="-",
            column_config=METRIC_COLUMNS
            | {
                "Bin from": st.column_config.NumberColumn(format="%.1f"),
                "Bin to": st.column_config.NumberColumn(format="%.1f"),
                "Mean probability": METRIC_COLUMNS["Value"],
                "Malignant": st.column_config.NumberColumn(
                    format="%.2f", help="Proportion of malignant images in the bin."
                ),
            },
            alt="Mean probability and proportion of malignant images in each bin",
        )
