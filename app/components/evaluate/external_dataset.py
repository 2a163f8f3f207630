"""An external dataset: the metrics of a model on it, and its domain shift."""

from collections.abc import Callable

import streamlit as st

from app.components.checks import show_checks
from app.components.layout import RESEARCH_USE, escape, show_error
from app.components.metric_table import draw_summary, show_metrics
from app.components.model_picker import engine_of
from app.components.paths import typed_path
from app.components.report_downloads import draw_report_files
from bc_model.data import Progress, list_image_files, load_dataset, parse_label_mapping
from bc_model.errors import BcModelError, DataError
from bc_model.evaluation import DomainShift, EvaluationReport, evaluate_external
from bc_model.inference import Bundle, expected_out_of_distribution_proportion
from bc_model.reporting import format_support

MOST_IMAGES = 2000
"""More images would keep a visitor waiting too long."""


def show_external_dataset(bundle: Bundle) -> None:
    """Draw the form, and below it the last result."""
    st.markdown(f"A folder with labeled images that were not used for training. {RESEARCH_USE}")
    with st.form("other-set"):
        folder = st.text_input("Dataset folder", key="other_folder", placeholder="/data/external")
        mapping = st.text_input(
            "Label mapping",
            key="other_mapping",
            placeholder="0=benign,1=malignant",
            help="Not needed for BreakHis names or folders named benign and malignant.",
        )
        st.caption("The label mapping assigns folder names to the classes benign and malignant.")
        case_above = st.checkbox(
            "Parent folder is the case",
            key="other_case_above",
            help="The folder above a label folder names the case; needs a label mapping.",
        )
        wants = st.form_submit_button(
            "Evaluate dataset", key="evaluate-other", type="primary", icon=":material/science:"
        )
    if wants:
        _evaluate(bundle, folder.strip(), mapping.strip(), case_above)
    key, folder, report = st.session_state.get("other-set-found", (None, "", None))
    if key == bundle.key:
        _draw_found(report, bundle, folder)


def _evaluate(bundle: Bundle, folder: str, mapping: str, case_above: bool) -> None:
    st.session_state.pop("other-set-found", None)
    bar = st.progress(0.0, "Reading images")

    def telling(words: str) -> Progress:
        def tell(done: int, of: int) -> None:
            bar.progress(done / of, f"{words}, {done} of {of}")

        return tell

    try:
        report = _on_other_set(bundle, folder, mapping, case_above, telling)
    except BcModelError as error:
        show_error(error, title="Evaluation failed")
    else:
        st.session_state["other-set-found"] = (bundle.key, folder, report)
    finally:
        bar.empty()


def _on_other_set(
    bundle: Bundle,
    folder: str,
    mapping: str,
    case_above: bool,
    telling: Callable[[str], Progress],
) -> EvaluationReport:
    if not folder:
        raise DataError("The dataset folder is empty. Enter the path of a folder with images.")
    root = typed_path(folder)
    labels = parse_label_mapping(mapping) if mapping else None
    if (n := len(list_image_files(root))) > MOST_IMAGES:
        raise DataError(
            f"Too many images. Expected at most {MOST_IMAGES:,}, got {n:,} in {root}. Select a "
            "smaller folder, or evaluate this one outside the app."
        )
    dataset = load_dataset(
        root, labels=labels, case_above=case_above, progress=telling("Reading images")
    )
    engine = engine_of(bundle).engine
    return evaluate_external(engine, dataset, mapping=labels, progress=telling("Predicting"))


def _draw_found(report: EvaluationReport, bundle: Bundle, folder: str) -> None:
    name = typed_path(folder).name
    st.header(escape(f"{bundle.label} on {name}"), anchor=False)
    show_checks(report.checks)
    draw_summary(report, f"External dataset {name}")
    if report.domain_shift is not None:
        _draw_shift(report.domain_shift, bundle)
    show_metrics(report)
    st.header("Export", anchor=False)
    draw_report_files(report, bundle, f"{bundle.label}-other-set")


def _draw_shift(shift: DomainShift, bundle: Bundle) -> None:
    st.header("Domain shift", anchor=False)
    size, far, separability = st.columns(3)
    if shift.n_unusual_staining is not None and not shift.n_reference_images:
        far.metric(
            "Out-of-distribution staining", f"{shift.n_unusual_staining:,} of {shift.n_images:,}"
        )
        proportion = expected_out_of_distribution_proportion(bundle.card)
        usual = (
            ""
            if proportion is None
            else f"; {100 * proportion:.1f} % for unseen cases of the training dataset"
        )
        far.caption(f"{_percent(shift.n_unusual_staining / shift.n_images)} of the images{usual}.")
    if shift.n_reference_images:  # Otherwise the model has no reference features.
        far.metric("Out-of-distribution images", _percent(shift.ood_proportion))
        far.caption("Expected without domain shift: 5 %.")
        separability.metric(
            "Separability",
            "not defined" if shift.separability is None else f"{shift.separability:.2f}",
        )
        separability.caption(
            "AUC between this dataset and the reference images; 0.50 without domain shift."
        )
    usual, n = next(iter(shift.sizes.items()))
    size.metric("Most frequent size, px", usual.replace("x", " x "))
    size.caption(f"{n:,} of {shift.n_images:,} images have this size.")
    if shift.stain:
        st.dataframe(
            [
                {
                    "Optical density": one.label,
                    "Reference": one.reference_mean,
                    "This dataset": one.mean,
                    "Difference in SD": one.distance,
                }
                for one in shift.stain
            ],
            hide_index=True,
            placeholder="-",
            column_config={
                "Reference": st.column_config.NumberColumn(format="%.3f"),
                "This dataset": st.column_config.NumberColumn(format="%.3f"),
                "Difference in SD": st.column_config.NumberColumn(format="%+.1f"),
            },
            alt="Optical density of the dataset and of the reference images",
        )
        st.caption(
            "Reference: the validation subset of the model "
            f"({format_support(shift.n_reference_images, shift.n_reference_cases)})."
        )
    else:
        st.caption(
            "Feature-based domain shift is not available: the model has no reference features."
        )


def _percent(proportion: float | None) -> str:
    return "not defined" if proportion is None else f"{100 * proportion:.0f} %"
