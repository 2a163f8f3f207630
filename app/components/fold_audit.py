"""What the official folds leak: counted from the names in the files, no picture needed."""

from pathlib import Path

import pandas as pd
import streamlit as st

from app.components.checks import show_checks
from app.components.count_charts import leak_bars
from app.components.fold_files import choose_fold_files
from app.components.frame import escape, show_error
from app.components.readings import Reading
from bc_model.checks import check_from_json
from bc_model.data.audit import audit_folds
from bc_model.data.fold_file import read_fold_file
from bc_model.data.fold_shelf import list_fold_files, remove_fold_files
from bc_model.errors import BcModelError, DataError

_WHICH = {
    "all": ("test", "shared", "share"),
    "benign": ("benign_test", "benign_shared", "benign_share"),
}


def draw_fold_audit(reading: Reading | None) -> None:
    """Draw the leaks of the fold files on the shelf, and how to add some.

    Parameters
    ----------
    reading : Reading, optional
        Of a data set, for the twins among its pictures.
    """
    st.markdown(
        "BreakHis comes with five files that say which picture is for test. They deal out folders, "
        "and a folder is one section of a slide. Sections of one slide number then stand on both "
        "sides, and a model can know a test picture by its slide."
    )
    files = choose_fold_files("audited-folds")
    if not files and not list_fold_files():
        st.info(
            "No fold file yet. Add dsfold1.txt to dsfold5.txt of the official release.",
            icon=":material/info:",
        )
    else:
        _offer_removal(files)
    audits = {}
    for file in files:
        try:
            audits[file.name] = _audit(file, reading)
        except (BcModelError, OSError) as error:
            show_error(error, title=f"{escape(file.name)} cannot be audited")
    if audits:
        _draw(audits, reading is not None)


def _offer_removal(files: list[Path]) -> None:
    with st.popover("Remove", icon=":material/delete:", disabled=not files):
        st.markdown(
            "Removed from the shelf: " + ", ".join(escape(file.name) for file in files) + ". Runs "
            "that have been made keep their split; one that still waits for its turn would fail."
        )
        st.button("Remove the chosen fold files", on_click=remove_fold_files, args=(files,))


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
            return audit_folds(folds, _reading.manifest)
        except DataError:
            pass  # a file of other data: its names can be counted all the same
    return audit_folds(folds)


def _draw(audits: dict[str, dict], with_twins: bool) -> None:
    if checks := [check_from_json(check) for one in audits.values() for check in one["checks"]]:
        show_checks(checks)
    else:
        st.success(
            "No test picture has a section of its slide in training.", icon=":material/verified:"
        )
    scales = list(dict.fromkeys(scale for one in audits.values() for scale in one["siblings"]))
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
        leak = one["siblings"].get(scale)
        if leak is None:
            continue
        rows.append(
            {
                "File": name,
                "Fold": one["fold"],
                "Names": one["names"],
                "Test pictures": leak["test"],
                "With a sibling": _share(leak, "all"),
                "Benign test pictures": leak["benign_test"],
                "Benign with a sibling": _share(leak, "benign"),
            }
        )
        bars += [
            {"fold": name, "which": which, "share": leak[keys[2]], "counts": _share(leak, which)}
            for which, keys in _WHICH.items()
            if leak[keys[2]] is not None
        ]
    st.dataframe(rows, hide_index=True, alt="Test pictures with a sibling in training, by file")
    if bars:
        st.altair_chart(leak_bars(pd.DataFrame(bars)), alt="The same shares as bars")
    if with_twins:
        _draw_twins(audits)


def _draw_twins(audits: dict[str, dict]) -> None:
    rows = [
        {
            "File": name,
            "Listed pictures here": twins["listed"],
            "Not listed": twins["not_listed"],
            "Test pictures here": twins["test"],
            "In training pixel for pixel": twins["shared"],
            "Benign of them": twins["benign_shared"],
        }
        for name, one in audits.items()
        if (twins := one["twins"])
    ]
    st.markdown("**Twins among the pictures of this data set**")
    if rows:
        st.dataframe(rows, hide_index=True, alt="Twins between training and test, by file")
    else:
        st.caption("These files list none of its pictures.")


def _share(leak: dict, which: str) -> str:
    of, shared, share = (leak[key] for key in _WHICH[which])
    return f"{shared:,} of {of:,} ({share:.1%})" if of else "not defined"
