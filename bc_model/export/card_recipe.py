"""What a recipe comes to otherwise: by other splits, and with settings chosen inside the folds."""

from collections.abc import Iterator
from typing import Any

from bc_model.evaluation.protocol_row import PROTOCOL_WORDS
from bc_model.export.document import Block, Heading, Table, Text
from bc_model.export.words import FIGURE_WORDS, cases_words, interval_words, value_words
from bc_model.serving.passport import NestedResult, ProtocolResult


def other_splits(rows: tuple[ProtocolResult, ...]) -> Iterator[Block]:
    """Yield the same recipe under other splits: what their leaks would make of it."""
    if not rows:
        return
    names = tuple(rows[0].metrics)
    table = []
    for row in rows:
        figures = [row.metrics[name] for name in names]
        cells = [f"{value_words(one)} ({interval_words(one)})" for one in figures]
        support = (str(row.n_folds), f"{row.n_images:,}", cases_words(row.n_cases))
        words = PROTOCOL_WORDS[row.protocol] + (" (LEAKY)" if row.has_leakage else "")
        table.append((words, *cells, *support))
    columns = ("Protocol", *(FIGURE_WORDS[n][0] for n in names), "Folds", "Pictures", "Cases")
    yield Heading("The same recipe under other splits")
    yield Table(columns, tuple(table), numeric=tuple(range(1, len(columns))))
    yield Text(
        "By case: no patient in both parts. By picture: patients in both, as in most papers. "
        "Official folds: those published with BreakHis, which share patients; cleaned, without "
        "these. A single fold of few cases says little: read its interval.",
        quiet=True,
    )


def chosen_inside(inside: NestedResult | None) -> Iterator[Block]:
    """Yield what the recipe comes to when settings are chosen without the judged cases."""
    if not inside:
        return
    yield Heading("With settings chosen inside the folds")
    figures = "; ".join(
        f"{FIGURE_WORDS[name][0]} {value_words(figure)} ({interval_words(figure)})"
        for name, figure in inside.metrics.items()
    )
    offered = inside.search_space
    views = "; ".join(f"'{name}': {_views_words(one)}" for name, one in offered.views.items())
    by = f" The choosing was done by {inside.selected_by}." if inside.selected_by else ""
    yield Text(
        f"Judged with {inside.network}, each without a fold.{by} For each fold the other folds "
        f"alone chose views ({views}), one of {len(offered.last_penalties)} penalties of the "
        f"last layer, one of {len(offered.penalties)} of the teacher, and the temperature. "
        f"Descriptors, sizes, steps and lessons were not chosen anew. {figures}. "
        f"{inside.n_images:,} pictures of {cases_words(inside.n_cases)} cases."
    )
    rows = tuple(
        (
            str(one.fold),
            one.views,
            f"{one.last_penalty:g}",
            f"{one.penalty:g}",
            f"{one.temperature:.2f}",
        )
        for one in inside.choices
    )
    columns = ("Fold", "Views", "Penalty, last layer", "Penalty, teacher", "Temperature")
    yield Table(columns, rows, numeric=(0, 2, 3, 4))
    yield Text("Temperatures here are of logits in the teacher's standard deviations.", quiet=True)


def _views_words(settings: dict[str, Any]) -> str:
    """Say what a kind of views has otherwise than the recipe."""
    if not settings:
        return "as in the recipe"
    values = {
        name: "-".join(
            f"{one:g}" for one in (value if isinstance(value, list | tuple) else [value])
        )
        for name, value in settings.items()
    }
    return ", ".join(f"{name} {value}" for name, value in values.items())
