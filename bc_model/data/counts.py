"""Tables of what a manifest holds: by class, subtype, magnification or size, by case, by name."""

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from bc_model.checks import Check, make_check
from bc_model.data.names import CLASSES, OFFICIAL_COUNTS, parse_name


def count_pictures(pictures: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Count pictures and cases of each combination of values.

    Parameters
    ----------
    pictures : DataFrame
        Of a manifest, or rows of it.
    *columns : str
        Columns of the manifest, or 'size' (width x height, px). Missing values are a row of
        their own.

    Returns
    -------
    DataFrame
        The columns asked for, then pictures and cases; sorted by the columns. Pictures without a
        case count towards no case.
    """
    frame = with_sizes(pictures) if "size" in columns else pictures
    frame = frame.assign(case=frame["case"].where(frame["case"] != ""))
    groups = frame.groupby(list(columns), dropna=False)
    counts = groups.agg(pictures=("path", "size"), cases=("case", "nunique"))
    return counts.reset_index()


def case_table(pictures: pd.DataFrame) -> pd.DataFrame:
    """Describe each case in a row.

    Returns
    -------
    DataFrame
        case, group, class, subtype, sections (how many), pictures, then one column for each
        magnification that occurs ('40X', ...) with its pictures. Sorted by class and case.
        Pictures without a case are not in it.
    """
    known = pictures[pictures["case"] != ""]
    table = known.groupby(["class", "case"]).agg(
        group=("group", "first"),
        subtype=("subtype", "first"),
        sections=("section", "nunique"),
        pictures=("path", "size"),
    )
    by_magnification = (
        known.groupby(["class", "case", "magnification"]).size().unstack(fill_value=0)
    )
    by_magnification.columns = [f"{magnification}X" for magnification in by_magnification.columns]
    table = table.join(by_magnification).fillna(0)
    table = table.astype(dict.fromkeys(by_magnification.columns, "int64")).reset_index()
    first = ["case", "group", "class"]
    return table[[*first, *(column for column in table if column not in first)]]


def with_sizes(pictures: pd.DataFrame) -> pd.DataFrame:
    """Add the column 'size', such as '700x460': width and height, px."""
    sizes = pictures["width_px"].astype(str) + "x" + pictures["height_px"].astype(str)
    return pictures.assign(size=sizes)


def size_clues(pictures: pd.DataFrame) -> pd.DataFrame:
    """List the picture sizes that occur in one class only, where the other class has other sizes.

    From such a size alone a class could be guessed. `bc_model.data.pictures.model_input` brings
    every picture to one size, and trims official frames to their common field.

    Returns
    -------
    DataFrame
        size, class, pictures, cases; empty when there is one size or one class.
    """
    table = count_pictures(pictures, "size", "class")
    alone = ~table["size"].duplicated(keep=False)
    if table["size"].nunique() < 2 or table["class"].nunique() < 2:
        alone &= False
    return table[alone].reset_index(drop=True)


def compare_with_official(file_names: Iterable[str]) -> list[Check]:
    """Compare the number of images with the published BreakHis dataset.

    Parameters
    ----------
    file_names : iterable of str
        Names without folders.

    Returns
    -------
    list of Check
        One for each class and magnification with another number of images; empty if all 7,909
        are present.
    """
    counts = Counter(
        (parsed.magnification, parsed.class_name)
        for parsed in filter(None, map(parse_name, file_names))
    )
    return [
        make_check(
            "BC257",
            magnification=magnification,
            class_name=name,
            n=counts[magnification, name],
            n_official=n_official,
        )
        for magnification, official in OFFICIAL_COUNTS.items()
        for name, n_official in zip(CLASSES, official, strict=True)
        if counts[magnification, name] != n_official
    ]
