"""The leakage of the official folds, counted from the names in the fold files."""

from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.action_log import show_confirmed_button
from app.components.charts import chart_fold_leakage
from app.components.checks import show_checks
from app.components.dataset_cache import LoadedDataset
from app.components.layout import escape_markdown, show_error
from app.components.split_form import select_fold_files
from bc_model.checks import check_from_json
from bc_model.data import list_fold_files, read_fold_file, remove_fold_files, summarize_fold_file
from bc_model.errors import BcModelError, DataError

_COUNTS = {
    "all": ("n_test", "n_shared", "proportion"),
    "benign": ("n_benign_test", "n_benign_shared", "benign_proportion"),
}
"""Test images, those with leakage, and their proportion: the keys in an audit."""


def show_fold_audit(loaded: LoadedDataset | None) -> None:
    """Show the leakage of the fold files, and the form that adds files.

    Parameters
    ----------
    loaded : LoadedDataset, optional
        The dataset whose duplicates are counted.
    """
    st.markdown(
        "The official BreakHis folds split by section, so images of one case can be in both "
        "training and test."
    )
    files = select_fold_files("audited-folds")
    if not files and not list_fold_files():
        st.info(
            "No fold file yet. Add dsfold1.txt to dsfold5.txt of the official release.",
            icon=":material/info:",
        )
    else:
        _show_remove_button(files)
    audits = {}
    for file in files:
        try:
            audits[file.name] = _audit(file, loaded)
        except (BcModelError, OSError) as error:
            show_error(error, title=f"Audit of {escape_markdown(file.name)} failed")
    if audits:
        _show_audits(audits, loaded is not None)


def _show_remove_button(files: list[Path]) -> None:
    names = ", ".join(file.name for file in files)
    show_confirmed_button(
        "Remove",
        f"This removes {escape_markdown(names)}. Finished runs keep their split; queued runs that "
        "use these files fail.",
        "Remove fold files",
        lambda: remove_fold_files(files),
        target=names,
        key="remove-fold-files",
        disabled=not files,
    )


def _audit(path: Path, loaded: LoadedDataset | None) -> dict:
    stat = path.stat()
    return _audit_file(
        str(path),
        (stat.st_size, stat.st_mtime_ns),
        loaded.fingerprint if loaded else "",
        loaded,
    )


@st.cache_data(max_entries=64, show_spinner="Counting")
def _audit_file(path: str, stamp: tuple, fingerprint: str, _loaded: LoadedDataset | None) -> dict:
    folds = read_fold_file(Path(path))
    if _loaded:
        try:
            return summarize_fold_file(folds, _loaded.dataset)
        except DataError:
            pass  # The file lists other data; its names can be counted nevertheless.
    return summarize_fold_file(folds)


def _show_audits(audits: dict[str, dict], with_duplicates: bool) -> None:
    if checks := [check_from_json(check) for audit in audits.values() for check in audit["checks"]]:
        show_checks(checks)
    else:
        st.success("No test image has its case in training.", icon=":material/verified:")
    magnifications = list(
        dict.fromkeys(name for audit in audits.values() for name in audit["section_leakage"])
    )
    magnification = st.segmented_control(
        "Magnification",
        magnifications,
        default="all",
        format_func=lambda name: "All" if name == "all" else name,
        key="audited-magnification",
        required=True,
    )
    rows, bars = [], []
    for name, audit in audits.items():
        leakage = audit["section_leakage"].get(magnification)
        if leakage is None:
            continue
        rows.append(
            {
                "File": name,
                "Fold": audit["fold"],
                "Names": audit["names"],
                "Test images": leakage["n_test"],
                "With leakage": leakage["n_shared"],
                "Proportion": leakage["proportion"],
                "Benign test images": leakage["n_benign_test"],
                "Benign with leakage": leakage["n_benign_shared"],
                "Benign proportion": leakage["benign_proportion"],
            }
        )
        bars += [
            {
                "fold": name,
                "images": images,
                "proportion": leakage[keys[2]],
                "counts": _format_proportion(leakage, keys),
            }
            for images, keys in _COUNTS.items()
            if leakage[keys[2]] is not None
        ]
    with_leakage = st.column_config.NumberColumn(help="Test images with their case in training.")
    proportion = st.column_config.NumberColumn(format="%.3f")
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "With leakage": with_leakage,
            "Benign with leakage": with_leakage,
            "Proportion": proportion,
            "Benign proportion": proportion,
        },
        alt="Test images with their case in training, by file",
    )
    if bars:
        st.altair_chart(chart_fold_leakage(pd.DataFrame(bars)), alt="The same proportions as bars")
    if with_duplicates:
        _show_duplicates(audits)


def _show_duplicates(audits: dict[str, dict]) -> None:
    rows = [
        {
            "File": name,
            "Listed images": duplicates["n_listed"],
            "Images not listed": duplicates["n_unlisted"],
            "Test images": duplicates["n_test"],
            "Exact duplicates": duplicates["n_shared"],
            "Benign duplicates": duplicates["n_benign_shared"],
        }
        for name, audit in audits.items()
        if (duplicates := audit["duplicates"])
    ]
    st.header("Duplicates in this dataset", anchor=False)
    if rows:
        st.dataframe(
            rows, hide_index=True, alt="Exact duplicates between training and test, by file"
        )
    else:
        st.caption("These files list no image of this dataset.")


def _format_proportion(leakage: dict, keys: tuple[str, str, str]) -> str:
    n_test, n_shared, proportion = (leakage[key] for key in keys)
    return f"{n_shared:,} of {n_test:,} ({proportion:.1%})"
