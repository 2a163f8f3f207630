"""Lock a cut-off into a model's model card, with its reason, and judge the model anew by it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import filelock

from bc_model.errors import RunError, SettingsError
from bc_model.evaluation.alarms import without_alarms
from bc_model.evaluation.cutoff import Cutoff
from bc_model.evaluation.report import evaluate_predictions, read_report
from bc_model.evaluation.store import make_anew, report_files
from bc_model.files import write_together
from bc_model.serving.bundle import MODEL_FOLDER, Bundle
from bc_model.serving.passport import (
    MODEL_CARD_FILE,
    DecisionThreshold,
    ModelCard,
    model_card_text,
    read_model_card,
)

LOCK_NAME = ".model_card.lock"
LOCK_TIMEOUT_S = 10
"""It is held while files are written, not while figures are computed."""


def lock_threshold(
    bundle: Bundle, value: float, reason: str, *, cutoff: Cutoff | None = None
) -> Bundle:
    """Write a cut-off into the model card, and the run's report again at that cut-off.

    Figures at another cut-off than the one in force would mislead whoever reads the model card, so
    the test figures are computed again from the run's stored predictions. A bundle outside a run
    has none; its figures say at which cut-off they were taken.

    Parameters
    ----------
    bundle : Bundle
    value : float
        In [0, 1].
    reason : str
        Why, in the words of whoever decides; not empty.
    cutoff : Cutoff, optional
        What `choose_cutoff` returned, if the value came from there.

    Returns
    -------
    Bundle
        With the new model card. It is written together with the report: whatever fails leaves the
        model as it was.

    Raises
    ------
    SettingsError
        The value is out of its range, differs from `cutoff`, or the reason is empty.
    RunError
        The run's report cannot be read or written, or the model was changed meanwhile.
    """
    _check(value, reason, cutoff)
    threshold = DecisionThreshold(
        value=float(value),
        method="set by hand",
        reason=reason.strip(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if cutoff:
        threshold = replace(
            threshold,
            method=cutoff.chosen,
            unit=cutoff.unit,
            n_images=cutoff.n,
            n_cases=cutoff.n_cases,
        )
    card = replace(bundle.card, threshold=threshold)
    files: dict[Path, bytes] = {}
    folder = evaluation_of(bundle)
    if folder is not None:
        old = read_report(folder)
        assert old.predictions is not None, "read_report reads the predictions or fails"
        report = evaluate_predictions(
            old.predictions,
            threshold=value,
            protocol=old.protocol,
            leaky=old.leaky,
            checks=without_alarms(old.checks),
        )
        files = report_files(report, folder)
        card = replace(card, metrics=replace(card.metrics, test=report.summary()))
    return change_model_card(bundle, card, files)


def change_model_card(bundle: Bundle, card: ModelCard, files: dict[Path, bytes]) -> Bundle:
    """Write a model card together with what must agree with it, all of it or nothing.

    Parameters
    ----------
    bundle : Bundle
        As it was read when the change was thought of.
    card : ModelCard
        What it is to say instead.
    files : dict of Path to bytes
        The report that it quotes, and whatever else goes with it.

    Raises
    ------
    RunError
        Somebody else has changed the model card since, or something cannot be written.
    """
    place = bundle.folder / MODEL_CARD_FILE
    text = model_card_text(bundle.folder, card)
    try:
        with filelock.FileLock(bundle.folder / LOCK_NAME, timeout=LOCK_TIMEOUT_S):
            if read_model_card(bundle.folder) != bundle.card:
                raise RunError(
                    f"The model {bundle.label} was changed by somebody else in the meantime, and "
                    "nothing was written: look at it again, then repeat."
                )
            write_together({**files, place: text.encode()})
    except OSError as error:
        raise RunError(
            f"The model card {place} and the report beside it should be written together, but that "
            f"failed ({error.strerror or error}), and nothing was changed: make room, or ask for "
            "the right to write there."
        ) from error
    return Bundle(bundle.folder, card)


def evaluation_of(bundle: Bundle) -> Path | None:
    """Return the evaluation folder of the run that a bundle is in; None outside a finished run."""
    folder = bundle.folder.resolve()
    if folder.name != MODEL_FOLDER:
        return None
    beside = folder.parent / "evaluation"
    return beside if (beside / "report.json").is_file() else None


def require_evaluation(bundle: Bundle) -> Path:
    """Return `evaluation_of` a bundle, or raise `RunError`."""
    folder = evaluation_of(bundle)
    if folder is None and bundle.learned_from_all:
        raise RunError(
            f"The model {bundle.label} learned from every picture that it was given: it has no "
            "validation or test part to fit, choose or report anything on. Its figures stand on "
            "its model card."
        )
    if folder is None:
        place = bundle.folder.resolve()
        if place.name == MODEL_FOLDER and (place.parent / "split.csv").is_file():
            lost = place.with_name("evaluation")
            raise RunError(
                f"The run of the model {bundle.label} has its report and its predictions in "
                f"{lost}, but they are gone: {make_anew(lost)}."
            )
        raise RunError(
            f"The model {bundle.label} is not in the folder of a finished run, where its report "
            "and its predictions are; name the run."
        )
    return folder


def _check(value: float, reason: str, cutoff: Cutoff | None) -> None:
    # Written so that NaN fails as well.
    if not 0.0 <= value <= 1.0:
        raise SettingsError(f"A cut-off lies between 0 and 1; asked for {value}.")
    if not reason.strip():
        raise SettingsError(
            "A cut-off is locked with its reason, but none is given; say in a sentence why."
        )
    if cutoff is not None and cutoff.value != value:
        raise SettingsError(
            f"The cut-off chosen on validation pictures is {cutoff.value}, but {value} is to be "
            "locked; lock what was chosen, or lock the other by hand."
        )
