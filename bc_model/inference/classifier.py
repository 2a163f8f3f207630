"""Classify images: probability, class, heatmaps and checks of each image.

`Classifier` returns predictions without side effects. `bc_model.inference.explanation_files` writes
a prediction to disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path

import numpy as np

from bc_model.checks import Check, Severity, by_severity, is_blocked, make_check
from bc_model.contribution_map import ContributionMap
from bc_model.data.breakhis import CLASSES, parse_name
from bc_model.data.declared_scale import DeclaredScale, as_scale, detect_scale, scale_of_frame
from bc_model.errors import ConfigError
from bc_model.gradcam import Heatmap
from bc_model.inference.batching import BatchingEngine, ImageExplanation
from bc_model.inference.bundle import Bundle, bundled_model_dir, open_bundle
from bc_model.inference.engine import Engine, compute_prob_malignant
from bc_model.inference.evidence_location import compute_cell_um, locate_evidence
from bc_model.inference.fine_graph import RESOLUTIONS
from bc_model.inference.image_checks import (
    FieldChecks,
    check_field,
    check_name_and_size,
    check_texture_scale,
)
from bc_model.inference.image_prediction import (
    INPUT_WARNINGS,
    NO_TISSUE,
    Prediction,
    TilePrediction,
    is_inside,
)
from bc_model.inference.precision import fastest_precision
from bc_model.inference.seen_images import check_seen
from bc_model.inference.tiling import TilePlan, cell_stride_px, plan_tiles, whole_image
from bc_model.inference.views import ViewSpread, predict_views

Progress = Callable[[int, int], None]

_MAX_REASONS = 3


@dataclass(frozen=True)
class _Explained:
    """One tile: its explanation, its failed checks and what they measured."""

    explanation: ImageExplanation
    checks: tuple[Check, ...]
    field: FieldChecks


class Classifier:
    """Classify images with one model and explain each prediction with Grad-CAM.

    Several threads can share a classifier.

    Parameters
    ----------
    engine : BatchingEngine
        Inference engine of the model.

    Attributes
    ----------
    bundle : Bundle
        The model on disk, with its model card, decision threshold and temperature.

    See Also
    --------
    load_classifier : Return a classifier for a model on disk.

    Examples
    --------
    >>> classifier = load_classifier("bundled")
    >>> gray = np.full((460, 700, 3), 200, np.uint8)
    >>> prediction = classifier.predict(gray, name="gray.png", magnification=200)
    >>> prediction.predicted_class is None
    True
    >>> prediction.checks[0].code, prediction.checks[0].severity.value
    ('BC104', 'blocking')
    """

    def __init__(self, engine: BatchingEngine) -> None:
        self.engine = engine
        self.bundle: Bundle = engine.bundle

    def predict(
        self,
        image: np.ndarray,
        *,
        name: str = "",
        scale: DeclaredScale | str | float | None = None,
        reduction: int = 1,
        magnification: int | None = None,
        resolution: str = "standard",
        show_anyway: bool = False,
        file_checks: Iterable[Check] = (),
        progress: Progress | None = None,
    ) -> Prediction:
        """Return the prediction for one image.

        An image that is larger than the field of view of the model is divided into tiles, see
        `bc_model.inference.plan_tiles`. Its prediction is the mean of their logits, so that the
        contributions of all tiles add up to its margin.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8
            RGB image from `read_image`, at its original size.
        name : str
            File name. An official BreakHis name contains the case and the magnification.
        scale : DeclaredScale, str or float, optional
            Scale of the image file: a `DeclaredScale`, a text such as '20x' (see
            `bc_model.data.parse_scale`), or µm per pixel. The default is that of the file name, see
            `bc_model.data.detect_scale`.
        reduction : int
            Pixels of the file that became one pixel of the image in each direction, see
            `bc_model.data.read_reduction`.
        magnification : int, optional
            Short form of `scale` for a whole BreakHis frame, such as 200 for 200X.
        resolution : {'standard', 'fine', 'finest'}
            Resolution of the heatmaps. 'fine' has twice as many cells in each direction and takes
            about 1.6 times as long, 'finest' has four times as many and takes about 6 times as
            long. Only for ResNet50.
        show_anyway : bool
            If True, the result of a blocked image is returned, with `Prediction.is_forced`.
        file_checks : iterable of Check
            Checks of the image file, which are added to those of the image.
        progress : callable, optional
            Called with the number of completed tiles and of all tiles. It may raise an exception,
            which ends the prediction.

        Raises
        ------
        ConfigError
            The scale is none, or both `scale` and `magnification` are given.
        EngineBusyError
            Too many images are waiting.
        ModelError
            The logits are not finite, or the model does not support the resolution.
        """
        height, width = image.shape[:2]
        stated = _find_scale(scale, magnification, name, width * reduction)
        scale = stated.reduced(reduction)
        found = [*file_checks, *_image_checks(image, name, scale, self.bundle)]
        plan = plan_tiles(width, height, scale, self.bundle.card)
        if isinstance(plan, Check):
            found.append(plan)
            plan = whole_image(width, height, self.bundle.card, scale)
        scaled = plan.scale_image(image)
        explained = list(self._explain_tiles(scaled, plan, resolution, progress))
        tissue, used = _select_tiles(explained)
        found += _merge_checks(explained, tissue, used, plan)
        textures = [explained[i].field.texture for i in used]
        estimated_mpp, contradiction = check_texture_scale(self.engine.engine, textures, plan)
        if contradiction is not None:
            found.append(contradiction)
        parts = np.stack([explained[i].explanation.logits for i in used])
        logits: np.ndarray = parts.mean(axis=0, dtype=np.float64)
        probability = self._prob_malignant(logits)
        predicted_class = CLASSES[int(probability >= self.bundle.threshold)]
        is_forced = is_blocked(found)
        band = self.bundle.uncertain_band
        unusual = [check.title.lower() for check in found if check.code in INPUT_WARNINGS]
        if band is not None and is_inside(probability, band):
            found.append(make_check("BC191", low=band[0], high=band[1]))
        elif unusual and not is_forced:
            found.append(make_check("BC178", reasons=unusual))
        heatmaps, contribution = _merge_maps(
            explained, used, plan, self.bundle, RESOLUTIONS[resolution]
        )
        cell_um = compute_cell_um(contribution.grid, width, height, plan.mpp)
        location = locate_evidence(contribution, predicted_class, scaled, cell_um=cell_um)
        found += location.find_checks() if location else ()
        prediction = Prediction(
            name=name,
            width_px=width,
            height_px=height,
            logits=tuple(float(logit) for logit in logits),
            prob_malignant=probability,
            predicted_class=predicted_class,
            heatmaps=heatmaps,
            contribution=contribution,
            location=location,
            checks=tuple(check for group in by_severity(found).values() for check in group),
            uncertain_band=band,
            scale=stated,
            reduction=reduction,
            estimated_mpp=estimated_mpp and estimated_mpp * plan.input_px_per_px / reduction,
            tiles=self._describe_tiles(explained, used, plan),
            measured=explained[0].field.measured if len(explained) == 1 else {},
            is_forced=is_forced,
        )
        return prediction if show_anyway else prediction.hide_if_blocked()

    def _explain_tiles(
        self, scaled: np.ndarray, plan: TilePlan, resolution: str, progress: Progress | None
    ) -> Iterator[_Explained]:
        for i, pixels in enumerate(plan.cut(scaled)):
            explanation = self.engine.explain_one(pixels, resolution)
            field = check_field(self.engine.engine, pixels, is_enlarged=plan.is_enlarged)
            constant = (make_check("BC106"),) if explanation.is_constant else ()
            if progress:
                progress(i + 1, len(plan.offsets))
            yield _Explained(explanation, (*constant, *field.checks), field)

    def _prob_malignant(self, logits: np.ndarray) -> float:
        return float(compute_prob_malignant(logits[None], self.bundle.temperature)[0])

    def _describe_tiles(
        self, explained: list[_Explained], used: list[int], plan: TilePlan
    ) -> tuple[TilePrediction, ...]:
        found = []
        for i, (tile, part) in enumerate(zip(plan.tiles, explained, strict=True)):
            probability = self._prob_malignant(part.explanation.logits) if i in used else None
            predicted = (
                None if probability is None else CLASSES[int(probability >= self.bundle.threshold)]
            )
            found.append(
                TilePrediction(tile, probability, predicted, part.checks, part.field.measured)
            )
        return tuple(found)

    def predict_views(self, image: np.ndarray) -> ViewSpread:
        """Return the probabilities of rotated, mirrored and shifted views of one image.

        Parameters
        ----------
        image : ndarray of shape (height, width, 3), uint8
            RGB image from `read_image`, at its original size.

        See Also
        --------
        bc_model.inference.predict_views : The same for an engine.
        """
        return predict_views(self.engine.engine, image)


def load_classifier(source: str | Path, *, precision: str = "f32") -> Classifier:
    """Return a classifier for a model on disk.

    Parameters
    ----------
    source : str or Path
        'bundled' for the bundled model, 'synthetic-demo' for the demo model, a run directory, or a
        model directory.
    precision : {'f32', 'bf16', 'int8', 'fastest'}
        Precision of the convolutions. 'fastest' is the result of `fastest_precision`; its
        probabilities differ from those of float32 within the limits of the parity check.

    Raises
    ------
    ModelError
        The path does not exist or is not a model.
    BundleError
        A file of the model is missing, changed or damaged, or the precision did not pass its
        parity check.

    Examples
    --------
    >>> load_classifier("bundled").bundle.image_size
    (224, 336)
    """
    bundle = open_bundle(_model_path(source))
    if precision == "fastest":
        precision = fastest_precision(bundle.card.precisions, bundle.card.files)
    return Classifier(BatchingEngine(Engine(bundle, precision)))


def _model_path(source: str | Path) -> Path:
    """Return the path of a model; the name of a bundled model counts unless a path has it."""
    if source == "bundled":
        return bundled_model_dir("bundled")
    path = Path(source)
    is_name = path.name == str(source) and not path.exists()
    included = bundled_model_dir(path.name) if is_name else path
    return included if included.is_dir() else path


def _find_scale(
    scale: DeclaredScale | str | float | None, magnification: int | None, name: str, width_px: int
) -> DeclaredScale:
    if magnification is not None:
        if scale is not None:
            raise ConfigError(
                "The scale is given twice. Expected one of scale and magnification. Leave one out."
            )
        if not isinstance(magnification, Integral) or magnification <= 0:
            raise ConfigError(
                f"Invalid magnification {magnification!r}. Expected a positive integer such as 200 "
                "for a BreakHis frame at 200X. For other images, give the scale."
            )
        return replace(scale_of_frame(int(magnification), width_px), source="user")
    if scale is None:
        return detect_scale(name, width_px=width_px)
    stated = as_scale(scale)
    if stated.magnification is not None and stated.mpp is None:
        return replace(scale_of_frame(stated.magnification, width_px), source=stated.source)
    return stated


def _image_checks(
    image: np.ndarray, name: str, scale: DeclaredScale, bundle: Bundle
) -> Iterator[Check]:
    """Yield the failed checks of an image as a whole, of its file name and of the model."""
    yield from check_name_and_size(name, image.shape[1], image.shape[0], scale, bundle)
    parsed = parse_name(name)
    case = parsed.case if parsed else ""
    is_seen_case = bool(case) and case in bundle.seen_cases
    if seen := make_check("BC110", case=case) if is_seen_case else check_seen(image, bundle):
        yield seen
    if bundle.temperature == 1.0:
        yield make_check("BC401")


def _select_tiles(explained: list[_Explained]) -> tuple[list[int], list[int]]:
    """Return the numbers of the tiles with tissue, and of those that the prediction uses.

    If most tiles with tissue are blocked, so is the image, and a forced prediction uses all.
    """
    tissue = [i for i, tile in enumerate(explained) if not _shows_glass(tile)]
    tissue = tissue or list(range(len(explained)))
    usable = [i for i in tissue if not is_blocked(explained[i].checks)]
    return tissue, usable if 2 * len(usable) >= len(tissue) else tissue


def _shows_glass(tile: _Explained) -> bool:
    return any(check.code in NO_TISSUE for check in tile.checks)


def _merge_checks(
    explained: list[_Explained], tissue: list[int], used: list[int], plan: TilePlan
) -> Iterator[Check]:
    """Yield the checks of the tiles that apply to the image, and those of the division.

    Tiles without tissue count only if no tile has any.
    """
    if len(explained) == 1:
        yield from explained[0].checks
        return
    tiles = [explained[i] for i in tissue]
    counts = Counter(check.code for tile in tiles for check in tile.checks)
    first = {check.code: check for tile in reversed(tiles) for check in tile.checks}
    blocked = [tile for tile in tiles if is_blocked(tile.checks)]
    is_mostly_blocked = 2 * len(blocked) > len(tiles)
    if is_mostly_blocked:
        codes = [code for code in counts if any(_has_blocking(tile, code) for tile in blocked)]
        decisive = max(codes, key=counts.__getitem__)
        yield next(
            check
            for tile in blocked
            for check in tile.checks
            if check.code == decisive and check.is_blocking
        )
    # Findings of different kinds count together: none of these tiles is one that the model knows.
    unusual = [tile for tile in tiles if _is_unusual(tile)]
    if 2 * len(unusual) >= len(tiles) and not _shows_glass(tiles[0]):
        yield make_check(
            "BC179",
            severity=Severity.BLOCKING if is_mostly_blocked else Severity.WARNING,
            n_found=len(unusual),
            n_tiles=len(tiles),
            reasons=_list_reasons(unusual),
        )
    for code, n_found in counts.items():
        is_counted = first[code].is_blocking or code in INPUT_WARNINGS
        if not is_counted and 2 * n_found >= len(tiles):
            yield first[code]
    yield make_check("BC163", n_tiles=len(explained), magnification=plan.magnification)
    excluded = [tile for i, tile in enumerate(explained) if i not in used]
    if excluded:
        have_tissue = any(not _shows_glass(tile) for tile in excluded)
        yield make_check(
            "BC145",
            severity=Severity.WARNING if have_tissue else Severity.INFO,
            n_found=len(excluded),
            n_tiles=len(explained),
            reasons=_list_reasons(excluded),
        )


def _has_blocking(tile: _Explained, code: str) -> bool:
    return any(check.code == code and check.is_blocking for check in tile.checks)


def _is_unusual(tile: _Explained) -> bool:
    return any(check.is_blocking or check.code in INPUT_WARNINGS for check in tile.checks)


def _list_reasons(tiles: list[_Explained]) -> list[str]:
    """Return the most frequent reasons for which tiles are blocked or unusual."""
    titles = Counter(
        check.title
        for tile in tiles
        for check in tile.checks
        if check.is_blocking or check.code in INPUT_WARNINGS
    )
    return [title for title, _ in titles.most_common(_MAX_REASONS)]


def _merge_maps(
    explained: list[_Explained], used: list[int], plan: TilePlan, bundle: Bundle, refinement: int
) -> tuple[dict[str, Heatmap], ContributionMap]:
    """Return the heatmaps and the contribution map of the image from those of its tiles."""
    parts = [explained[i].explanation for i in used]
    if len(explained) == 1:
        return parts[0].heatmaps, parts[0].contribution
    grid = plan.grid(bundle.card.architecture.backbone, refinement)
    stride_px = cell_stride_px(bundle.card) / refinement
    heatmaps = {
        name: Heatmap(
            name,
            plan.merge_cells([part.heatmaps[name].raw for part in parts], used, stride_px),
            grid,
            len(used),
        )
        for name in CLASSES
    }
    maps = [part.contribution for part in parts]
    contribution = ContributionMap(
        plan.merge_cells([part.cells for part in maps], used, stride_px),
        baseline=float(np.mean([part.baseline for part in maps])),
        residual=float(np.mean([part.residual for part in maps])),
        margin=float(np.mean([part.margin for part in maps])),
        grid=grid,
        n_tiles=len(used),
    )
    return heatmaps, contribution
