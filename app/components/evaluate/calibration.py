"""Calibration of the estimated probabilities: reliability diagram and error."""

import streamlit as st

from app.components.charts import chart_reliability
from app.components.layout import escape_markdown
from app.components.metric_table import METRIC_COLUMNS, make_frame
from bc_model.evaluation import EvaluationReport, is_cross_validated
from bc_model.inference import Bundle


def show_calibration(report: EvaluationReport, bundle: Bundle) -> None:
    """Show the reliability diagram of a report beside its expected calibration error."""
    reliability = report.calibration
    chart, values = st.columns([3, 2], gap="large")
    with chart:
        st.altair_chart(
            chart_reliability(reliability),
            alt="Proportion of malignant images against the estimated probability of malignancy, "
            f"in {len(reliability.bins)} bins",
        )
        st.caption(
            "Dashed line: perfect calibration; bars: 95 % intervals; dot area: number of images."
        )
    with values:
        st.metric("Expected calibration error", f"{reliability.ece:.3f}")
        st.caption(
            f"Expected by chance for perfect calibration: {reliability.ece_if_calibrated:.3f}."
        )
        st.caption(
            f"With bins of equal count: {reliability.ece_equal_count:.3f} (by chance "
            f"{reliability.ece_equal_count_if_calibrated:.3f})."
        )
        temperature = bundle.card.temperature
        st.caption(f"Temperature {temperature.value:.2f}: {escape_markdown(temperature.method)}.")
        if is_cross_validated(bundle):
            st.caption("Each fold has its own temperature, fitted on the other folds.")
        for name, title in (("brier", "Brier score"), ("log_loss", "Log loss")):
            st.caption(f"{title} {escape_markdown(str(report.metrics[name]))}; lower is better.")
    with st.expander("Bins", icon=":material/table:"):
        st.dataframe(
            make_frame(
                [
                    {
                        "Bin from": bin_.prob_low,
                        "Bin to": bin_.prob_high,
                        "Mean probability": bin_.mean_prob,
                        "Malignant": bin_.observed.value,
                        "CI low": bin_.observed.ci_low,
                        "CI high": bin_.observed.ci_high,
                        "Images": bin_.observed.n_images,
                        "Cases": bin_.observed.n_cases or None,
                    }
                    for bin_ in reliability.bins
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
