"""An external dataset: the metrics of a model on it, and its domain shift."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from app.components.checks import show_checks
from app.components.decoding import decode_dataset_image
from app.components.layout import RESEARCH_USE, escape_markdown, show_error
from app.components.metric_table import show_metrics, show_summary
from app.components.model_picker import load_engine
from app.components.paths import list_roots, parse_path, require_links_inside
from app.components.report_downloads import show_report_files
from bc_model.data import Progress, list_image_files, load_dataset, parse_rules
from bc_model.errors import BcModelError, DataError
from bc_model.evaluation import DomainShift, EvaluationReport, evaluate_external
from bc_model.inference import Bundle, expected_out_of_distribution_proportion
from bc_model.reporting import format_support
from bc_model.training import OPTIONS

MAX_IMAGES = 2000
"""The page is blocked during the evaluation, so larger datasets are refused."""


def show_external_dataset(bundle: Bundle) -> None:
    """Show the form, and the last result below it."""
    st.markdown(f"A folder of labeled images that were not used for training. {RESEARCH_USE}")
    if not list_roots():
        st.info(
            "Paths on the server are disabled. Evaluate an external dataset on the command line.",
            icon=":material/info:",
        )
        return
    with st.form("external"):
        folder = st.text_input(
            "Dataset folder", key="external_folder", placeholder="/data/external"
        )
        mapping = st.text_input(
            "Label mapping",
            key="label_mapping",
            placeholder="0=benign,1=malignant",
            help="Not needed for BreakHis names or folders named benign and malignant.",
        )
        st.caption("The label mapping assigns folder names to the classes benign and malignant.")
        case_from = st.text_input(
            "Case from",
            key="case_from",
            placeholder="folder:2",
            help=OPTIONS["case_from"].help,
        )
        is_submitted = st.form_submit_button(
            "Evaluate dataset", key="evaluate-external", type="primary", icon=":material/science:"
        )
    if is_submitted:
        _evaluate(bundle, folder.strip(), mapping.strip(), case_from.strip())
    key, folder, report = st.session_state.get("external-result", (None, "", None))
    if key == bundle.key:
        _show_result(report, bundle, folder)


def _evaluate(bundle: Bundle, folder: str, mapping: str, case_from: str) -> None:
    st.session_state.pop("external-result", None)
    bar = st.progress(0.0, "Reading images")

    def make_progress(action: str) -> Progress:
        def show(n_done: int, n_total: int) -> None:
            bar.progress(n_done / n_total, f"{action}: {n_done:,} of {n_total:,} images")

        return show

    try:
        report = _evaluate_folder(bundle, folder, mapping, case_from, make_progress)
    except BcModelError as error:
        show_error(error, title="Evaluation failed")
    else:
        st.session_state["external-result"] = (bundle.key, folder, report)
    finally:
        bar.empty()


def _evaluate_folder(
    bundle: Bundle,
    folder: str,
    mapping: str,
    case_from: str,
    make_progress: Callable[[str], Progress],
) -> EvaluationReport:
    if not folder:
        raise DataError("No dataset folder is given. Expected a folder of images. Enter its path.")
    root = parse_path(folder)
    rules = parse_rules(mapping, case_from)
    files = list_image_files(root)
    require_links_inside(root, files)
    if (n := len(files)) > MAX_IMAGES:
        raise DataError(
            f"Too many images. Expected at most {MAX_IMAGES:,}, got {n:,} in {root}. Select a "
            "smaller folder, or evaluate this one outside the app."
        )
    progress = make_progress("Reading images")
    dataset = load_dataset(
        root,
        rules=rules,
        progress=progress,
        decode=decode_dataset_image,
    )
    engine = load_engine(bundle).engine
    return evaluate_external(
        engine,
        dataset,
        progress=make_progress("Predicting"),
        decode=decode_dataset_image,
    )


def _show_result(report: EvaluationReport, bundle: Bundle, folder: str) -> None:
    name = parse_path(folder).name
    st.header(escape_markdown(f"{bundle.label} on {name}"), anchor=False)
    show_summary(report, f"external dataset {name}")
    show_checks(report.checks)
    if report.domain_shift is not None:
        _show_shift(report.domain_shift, bundle)
    show_metrics(report)
    if report.excluded:
        with st.expander(f"Excluded images ({len(report.excluded):,})"):
            st.dataframe(
                pd.DataFrame(
                    {
                        "Image": [image.path for image in report.excluded],
                        "Checks": [" ".join(image.codes) for image in report.excluded],
                    }
                ),
                hide_index=True,
                alt="Images that the input checks excluded, with the codes of their checks",
            )
    st.header("Export", anchor=False)
    show_report_files(report, bundle, f"{bundle.label}-external")


def _show_shift(shift: DomainShift, bundle: Bundle) -> None:
    st.header("Domain shift", anchor=False)
    size, outliers, separability = st.columns(3)
    if shift.n_unusual_staining is not None and not shift.n_reference_images:
        outliers.metric(
            "Out-of-distribution staining", f"{shift.n_unusual_staining:,} of {shift.n_images:,}"
        )
        proportion = expected_out_of_distribution_proportion(bundle.card)
        expected = (
            ""
            if proportion is None
            else f"; {100 * proportion:.1f} % for unseen cases of the training dataset"
        )
        outliers.caption(
            f"{_percent(shift.n_unusual_staining / shift.n_images)} of the images{expected}."
        )
    if shift.n_reference_images:  # Otherwise the model has no reference features.
        outliers.metric("Out-of-distribution images", _percent(shift.ood_proportion))
        outliers.caption("Expected without domain shift: 5 %.")
        separability.metric(
            "Separability",
            "not defined" if shift.separability is None else f"{shift.separability:.2f}",
        )
        separability.caption(
            "AUC between this dataset and the reference images; 0.50 without domain shift."
        )
    most_frequent, n_images = next(iter(shift.sizes.items()))
    size.metric("Typical size, px", most_frequent.replace("x", " x "))
    size.caption(f"{n_images:,} of {shift.n_images:,} images have this size.")
    if shift.stain:
        st.dataframe(
            [
                {
                    "Optical density": stain.label,
                    "Reference": stain.reference_mean,
                    "This dataset": stain.mean,
                    "Difference in SD": stain.distance,
                }
                for stain in shift.stain
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
            "The model has no reference features, so its domain shift is measured by staining only."
        )


def _percent(proportion: float | None) -> str:
    return "not defined" if proportion is None else f"{100 * proportion:.0f} %"
