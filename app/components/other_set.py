"""Another set of pictures: how a model does on it, and how far it is from what the model knows."""

from collections.abc import Callable

import streamlit as st

from app.components.figures import draw_figures, draw_warnings
from app.components.frame import RESEARCH_USE, escape, show_error
from app.components.models import engine_of
from app.components.take_away import draw_report_files
from app.places import as_typed, typed_path
from bc_model.data.manifest import Progress, read_manifest
from bc_model.data.mapped import parse_mapping, read_mapped
from bc_model.data.picture_files import picture_files
from bc_model.errors import BcModelError, DataError
from bc_model.evaluation.report import Report
from bc_model.evaluation.shift import Shift
from bc_model.evaluation.unseen import evaluate_unseen
from bc_model.export.words import support_words
from bc_model.serving.bundle import Bundle
from bc_model.serving.input_gate import usual_strange_share

MOST_PICTURES = 2000
"""More than a page should be waited for."""


def draw_other_set(bundle: Bundle) -> None:
    """Draw the form, and below it what was found last."""
    st.markdown(
        f"A folder on this machine with pictures that the model had no part of. {RESEARCH_USE}"
    )
    with st.form("other-set"):
        folder = st.text_input(
            "Folder of the other set", key="other_folder", placeholder="/data/other_set"
        )
        mapping = st.text_input(
            "Labels",
            key="other_mapping",
            placeholder="0=benign,1=malignant",
            help="Leave it empty for official names or folders called benign and malignant.",
        )
        st.caption(
            "Labels say which class a folder's name stands for. If they ask another question than "
            "benign or malignant tumour, the figures below are of another task."
        )
        case_above = st.checkbox(
            "The folder above a label's folder names the case",
            key="other_case_above",
            help="Only with labels. Without cases, every picture counts as a case of its own.",
        )
        wants = st.form_submit_button(
            "Evaluate on this set", key="evaluate-other", type="primary", icon=":material/science:"
        )
    if wants:
        _evaluate(bundle, folder.strip(), mapping.strip(), case_above)
    key, folder, report = st.session_state.get("other-set-found", (None, "", None))
    if key == bundle.key:
        _draw_found(report, bundle, folder)


def _evaluate(bundle: Bundle, folder: str, mapping: str, case_above: bool) -> None:
    st.session_state.pop("other-set-found", None)
    bar = st.progress(0.0, "Reading the pictures")

    def telling(words: str) -> Progress:
        def tell(done: int, of: int) -> None:
            bar.progress(done / of, f"{words}, {done} of {of}")

        return tell

    try:
        report = _on_other_set(bundle, folder, mapping, case_above, telling)
    except BcModelError as error:
        show_error(error, title="This set cannot be evaluated")
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
) -> Report:
    if not folder:
        raise DataError("No folder is named; write where the pictures lie.")
    root = typed_path(folder)
    labels = parse_mapping(mapping) if mapping else None
    if (n := len(picture_files(root))) > MOST_PICTURES:
        command = ["evaluate", str(bundle.folder), str(root), "--unseen"]
        command += ["--map", mapping] if mapping else []
        command += ["--case-above"] if case_above and mapping else []
        raise DataError(
            f"The folder {root} holds {n:,} pictures, and a page is not waited for so long above "
            f"{MOST_PICTURES:,}; use the command line: "
            f"python -m bc_model {as_typed(command)} --out FOLDER"
        )
    tell = telling("Reading the pictures")
    manifest = (
        read_mapped(root, labels, case_above=case_above, progress=tell)
        if labels
        else read_manifest(root, progress=tell)
    )
    engine = engine_of(bundle).engine
    return evaluate_unseen(engine, manifest, mapping=labels, progress=telling("Predicting"))


def _draw_found(report: Report, bundle: Bundle, folder: str) -> None:
    st.header(escape(f"{bundle.label} on {folder}"), anchor=False)
    draw_warnings(report)
    if report.shift is not None:
        _draw_shift(report.shift, bundle)
    draw_figures(report)
    st.header("Take it with you", anchor=False)
    draw_report_files(report, bundle, f"{bundle.label}-other-set")


def _draw_shift(shift: Shift, bundle: Bundle) -> None:
    st.header("How far the set is from what the model knows", anchor=False)
    size, far, apart = st.columns(3)
    if shift.strange_stain is not None and not shift.known_n:
        far.metric("Stained unlike the model's own", f"{shift.strange_stain:,} of {shift.n:,}")
        share = usual_strange_share(bundle.passport)
        usual = (
            "" if share is None else f"; {100 * share:.1f} % of other cases of the model's own kind"
        )
        far.caption(f"{_percent(shift.strange_stain / shift.n)} of the pictures{usual}.")
    if shift.known_n:  # else the model came without features to hold the set against
        far.metric("Pictures far off by their features", _percent(shift.far_share))
        far.caption("5 % in a set of the same kind.")
        apart.metric(
            "Farther than the model's own",
            "not defined" if shift.apart is None else f"{shift.apart:.2f}",
        )
        apart.caption("Chance that one of its pictures is; 0.50 in a set of the same kind.")
    usual, n = next(iter(shift.sizes.items()))
    size.metric("Most frequent size, px", usual.replace("x", " x "))
    size.caption(f"{n} of {shift.n} pictures. A size says nothing of the scale.")
    if shift.stain:
        st.dataframe(
            [
                {
                    "Optical density": one.words,
                    "Model's own": f"{one.known_mean:.3f}",
                    "This set": f"{one.mean:.3f}",
                    "Distance in spreads": f"{one.distance:+.1f}",
                }
                for one in shift.stain
            ],
            hide_index=True,
            alt="Stain of the set, held against that of the model's own pictures",
        )
        st.caption(
            "The model's own: "
            f"{support_words(shift.known_n, shift.known_cases)} of its validation part."
        )
    else:
        st.caption(
            "The model came without validation features, so the set is not held against them."
        )


def _percent(share: float | None) -> str:
    return "not defined" if share is None else f"{100 * share:.0f} %"
