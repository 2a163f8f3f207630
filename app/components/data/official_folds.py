"""The leakage of the official folds, counted from the names in the fold files."""

from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.charts import leak_bars
from app.components.checks import show_checks
from app.components.dataset_cache import Reading
from app.components.layout import escape, show_error
from app.components.split_form import choose_fold_files
from bc_model.checks import check_from_json
from bc_model.data import list_fold_files, read_fold_file, remove_fold_files, summarize_fold_file
from bc_model.errors import BcModelError, DataError

_WHICH = {
    "all": ("n_test", "n_shared", "proportion"),
    "benign": ("n_benign_test", "n_benign_shared", "benign_proportion"),
}


def draw_fold_audit(reading: Reading | None) -> None:
    """Draw the leakage of the fold files, and the form that adds some.

    Parameters
    ----------
    reading : Reading, optional
        The dataset whose duplicates are counted.
    """
    st.markdown(
        "The five official BreakHis fold files split by section. Sections of one case then occur "
        "in both training and test, so a model can recognize the slide of a test image."
    )
    files = choose_fold_files("audited-folds")
    if not files and not list_fold_files():
        st.info(
            "No fold file yet. Add dsfold1.txt to dsfold5.txt from the official release.",
            icon=":material/info:",
        )
    else:
        _offer_removal(files)
    audits = {}
    for file in files:
        try:
            audits[file.name] = _audit(file, reading)
        except (BcModelError, OSError) as error:
            show_error(error, title=f"Audit of {escape(file.name)} failed")
    if audits:
        _draw(audits, reading is not None)


def _offer_removal(files: list[Path]) -> None:
    with st.popover("Remove", icon=":material/delete:", disabled=not files):
        st.markdown(
            "Remove "
            + ", ".join(escape(file.name) for file in files)
            + "? Finished runs keep their "
            "split; queued runs that use these files fail."
        )
        st.button("Remove fold files", on_click=remove_fold_files, args=(files,))


def _audit(path: Path, reading: Reading | None) -> dict:
    stat = path.stat()
    return _audit_once(
        str(path),
        (stat.st_size, stat.st_mtime_ns),
        reading.fingerprint if reading else "",
        reading,
    )


@st.cache_data(max_entries=64, show_spinner="Counting")
def _audit_once(path: str, stamp: tuple, fingerprint: str, _reading: Reading | None) -> dict:
    folds = read_fold_file(Path(path))
    if _reading:
        try:
            return summarize_fold_file(folds, _reading.dataset)
        except DataError:
            pass  # The file lists other data; its names can be counted nevertheless.
    return summarize_fold_file(folds)


def _draw(audits: dict[str, dict], with_duplicates: bool) -> None:
    if checks := [check_from_json(check) for one in audits.values() for check in one["checks"]]:
        show_checks(checks)
    else:
        st.success(
            "No test image has a section of its slide in training.", icon=":material/verified:"
        )
    scales = list(
        dict.fromkeys(scale for one in audits.values() for scale in one["section_leakage"])
    )
    scale = st.segmented_control(
        "Magnification",
        scales,
        default="all",
        format_func=lambda name: "All" if name == "all" else name,
        key="audited-scale",
        required=True,
    )
    rows, bars = [], []
    for name, one in audits.items():
        leak = one["section_leakage"].get(scale)
        if leak is None:
            continue
        rows.append(
            {
                "File": name,
                "Fold": one["fold"],
                "Names": one["names"],
                "Test images": leak["n_test"],
                "Shared": leak["n_shared"],
                "Shared proportion": leak["proportion"],
                "Benign test images": leak["n_benign_test"],
                "Benign shared": leak["n_benign_shared"],
                "Benign shared proportion": leak["benign_proportion"],
            }
        )
        bars += [
            {
                "fold": name,
                "which": which,
                "share": leak[keys[2]],
                "counts": _proportion(leak, which),
            }
            for which, keys in _WHICH.items()
            if leak[keys[2]] is not None
        ]
    shared = st.column_config.NumberColumn(
        help="Test images with a section of their slide in training."
    )
    percent = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "Shared": shared,
            "Benign shared": shared,
            "Shared proportion": percent,
            "Benign shared proportion": percent,
        },
        alt="Test images with a section of their slide in training, by file",
    )
    if bars:
        st.altair_chart(leak_bars(pd.DataFrame(bars)), alt="The same proportions as bars")
    if with_duplicates:
        _draw_duplicates(audits)


def _draw_duplicates(audits: dict[str, dict]) -> None:
    rows = [
        {
            "File": name,
            "Listed images": duplicates["n_listed"],
            "Images not listed": duplicates["n_unlisted"],
            "Test images": duplicates["n_test"],
            "Exact duplicates": duplicates["n_shared"],
            "Benign duplicates": duplicates["n_benign_shared"],
        }
        for name, one in audits.items()
        if (duplicates := one["duplicates"])
    ]
    st.markdown("**Duplicates in this dataset**")
    if rows:
        st.dataframe(
            rows, hide_index=True, alt="Exact duplicates between training and test, by file"
        )
    else:
        st.caption("These files list no image of this dataset.")


def _proportion(leak: dict, which: str) -> str:
    of, shared, proportion = (leak[key] for key in _WHICH[which])
    return f"{shared:,} of {of:,} ({proportion:.1%})" if of else "not defined"
