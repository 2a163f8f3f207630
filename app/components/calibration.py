"""Whether the estimated probabilities mean what they say: reliability diagram and error."""

import streamlit as st

from app.components.frame import escape
from app.components.report_charts import reliability_chart
from bc_model.evaluation.crossed import is_crossed
from bc_model.evaluation.report import Report
from bc_model.reporting.labels import cases_words, interval_words, support_words, value_words
from bc_model.serving.bundle import Bundle


def draw_calibration(report: Report, bundle: Bundle) -> None:
    """Draw the reliability diagram of a report beside its expected calibration error."""
    found = report.calibration
    chart, words = st.columns([3, 2], gap="large")
    with chart:
        st.altair_chart(
            reliability_chart(found),
            alt="Share of malignant pictures against the estimated probability of malignancy, "
            f"in {len(found.bins)} bins",
        )
        st.caption(
            "On the dashed line probabilities mean what they say. Bars are 95 % intervals; a large "
            f"dot stands for many pictures. {support_words(found.n, found.n_cases)}."
        )
    with words:
        st.metric("Expected calibration error", f"{found.ece:.3f}")
        st.caption(
            "Mean distance between said and seen. A perfectly calibrated model would show "
            f"{found.ece_by_chance:.3f} on as many independent pictures, so read it beside that; "
            f"with bins of equal count {found.ece_equal_count:.3f} and "
            f"{found.ece_equal_count_by_chance:.3f}."
        )
        temperature = bundle.card.temperature
        st.caption(
            f"Temperature {temperature.value:.2f}: {escape(temperature.method)}."
            + (" The folds shown here have their own, fitted on the others." * is_crossed(bundle))
        )
        for name, title in (("brier", "Brier score"), ("log_loss", "Log loss")):
            st.caption(f"{title} {escape(str(report.figures[name]))}. Lower is better.")
    with st.expander("The bins as a table", icon=":material/table:"):
        st.dataframe(
            [
                {
                    "Said": f"{one.low:.1f} to {one.high:.1f}",
                    "Mean said": f"{one.mean_prob:.2f}",
                    "Seen": value_words(one.observed, 2),
                    "95 % interval": interval_words(one.observed, 2),
                    "Pictures": one.observed.n,
                    "Cases": cases_words(one.observed.n_cases),
                }
                for one in found.bins
            ],
            hide_index=True,
            alt="Said and seen in each bin, with interval, pictures and cases",
        )
