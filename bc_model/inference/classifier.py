"""Classify images: probability, class, heatmaps and checks of each image.

`Classifier` returns predictions without side effects. `bc_model.inference.explanation_files` writes
a prediction to disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bc_model.checks import Check, Severity, by_severity, is_blocked, make_check
from bc_model.contribution_map import ContributionMap
from bc_model.data.breakhis import CLASSES, is_synthetic, parse_name
from bc_model.data.declared_scale import DeclaredScale, detect_scale, scale_of_frame
from bc_model.gradcam import Heatmap
from bc_model.inference.batching import BatchingEngine, ImageExplanation
from bc_model.inference.bundle import Bundle, bundled_model_dir, open_bundle
from bc_model.inference.engine import Engine, compute_prob_malignant
from bc_model.inference.evidence_location import compute_cell_um, locate_evidence
from bc_model.inference.fine_graph import RESOLUTIONS
from bc_model.inference.image_prediction import (
    INPUT_WARNINGS,
    Prediction,
    TilePrediction,
    is_inside,
)
from bc_model.inference.input_checks import check_size, check_staining
from bc_model.inference.precision import fastest_precision
from bc_model.inference.seen_images import check_seen
from bc_model.inference.suitability import measure_field
from bc_model.inference.texture import texture_features
from bc_model.inference.tiling import TilePlan, cell_stride_px, plan_tiles, whole_image
from bc_model.inference.views import ViewSpread, predict_views

Progress = Callable[[int, int], None]

_MIN_WARNING_TILES = 0.5
"""Smallest proportion of the tiles with a warning that applies to the image."""


@dataclass(frozen=True)
class _Explained:
    """One tile: its texture, its explanation and its failed checks."""

    texture: np.ndarray | None
    explanation: ImageExplanation
    checks: tuple[Check, ...]


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
        scale: DeclaredScale | None = None,
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
        scale : DeclaredScale, optional
            Scale of the image. The default is that of the file name, see
            `bc_model.data.detect_scale`.
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
        EngineBusyError
            Too many images are waiting.
        ModelError
            The logits are not finite, or the model does not support the resolution.
        """
        height, width = image.shape[:2]
        scale = _find_scale(scale, magnification, name, width)
        found = [*file_checks, *_image_checks(image, name, scale, self.bundle)]
        plan = plan_tiles(width, height, scale, self.bundle.card)
        if isinstance(plan, Check):
            found.append(plan)
            plan = whole_image(width, height, self.bundle.card, scale)
        scaled = plan.scale_image(image)
        explained = list(self._explain_tiles(scaled, plan, resolution, progress))
        used = [i for i, tile in enumerate(explained) if not is_blocked(tile.checks)]
        found += _merge_checks(explained, used, plan)
        used = used or list(range(len(explained)))
        estimated_mpp = self._estimate_input_mpp([explained[i].texture for i in used])
        if estimated_mpp is not None and plan.is_comparable(self.bundle.card):
            found += filter(None, [self._check_scale(plan, estimated_mpp)])
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
            scale=scale,
            estimated_mpp=estimated_mpp and estimated_mpp * plan.input_px_per_px,
            tiles=self._describe_tiles(explained, used, plan),
            is_forced=is_forced,
        )
        return prediction if show_anyway else prediction.hide_if_blocked()

    def _explain_tiles(
        self, scaled: np.ndarray, plan: TilePlan, resolution: str, progress: Progress | None
    ) -> Iterator[_Explained]:
        for i, pixels in enumerate(plan.cut(scaled)):
            explanation = self.engine.explain_one(pixels, resolution)
            texture, checks = check_field(self.engine.engine, pixels, is_enlarged=plan.is_enlarged)
            if explanation.is_constant:
                checks = (make_check("BC106"), *checks)
            if progress:
                progress(i + 1, len(plan.offsets))
            yield _Explained(texture, explanation, checks)

    def _estimate_input_mpp(self, textures: list[np.ndarray | None]) -> float | None:
        """Return the median over the tiles of the µm per pixel that their texture suggests."""
        estimator = self.engine.engine.scale_estimator
        if estimator is None:
            return None
        found = [estimator.estimate(texture) for texture in textures if texture is not None]
        return float(np.median(found))

    def _check_scale(self, plan: TilePlan, estimated_mpp: float) -> Check | None:
        estimator = self.engine.engine.scale_estimator
        assert estimator is not None
        assert plan.input_mpp is not None
        return estimator.check(plan.input_mpp, estimated_mpp)

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
            found.append(TilePrediction(tile, probability, predicted, part.checks))
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


def check_field(
    engine: Engine, pixels: np.ndarray, *, is_enlarged: bool = False
) -> tuple[np.ndarray | None, tuple[Check, ...]]:
    """Return the texture of one field of view, and its failed checks.

    Parameters
    ----------
    engine : Engine
        The model with its input reference.
    pixels : ndarray of shape (height, width, 3), uint8
        Input of the network.
    is_enlarged : bool
        True if the image had fewer pixels in a direction.

    Returns
    -------
    ndarray of shape (n_features,), float32, or None
        See `bc_model.inference.texture.texture_features`. None if the model does not use it.
    tuple of Check
    """
    reference = engine.input_reference
    needs_texture = reference is not None or engine.scale_estimator is not None
    texture = texture_features(pixels) if needs_texture else None
    staining = check_staining(pixels, engine.bundle.card)
    checks = [staining] if staining else []
    if reference is not None and texture is not None:
        checks += reference.check(measure_field(pixels), texture, is_enlarged=is_enlarged)
    return texture, tuple(checks)


def _find_scale(
    scale: DeclaredScale | None, magnification: int | None, name: str, width_px: int
) -> DeclaredScale:
    if scale is None and magnification is None:
        return detect_scale(name, width_px=width_px)
    if scale is None or (scale.magnification is not None and scale.mpp is None):
        magnification = magnification if scale is None else scale.magnification
        assert magnification is not None
        found = scale_of_frame(magnification, width_px)
        return replace(found, source=scale.source if scale else "user")
    return scale


def _image_checks(
    image: np.ndarray, name: str, scale: DeclaredScale, bundle: Bundle
) -> Iterator[Check]:
    """Yield the failed checks of an image as a whole, of its file name and of the model."""
    parsed = parse_name(name)
    case = parsed.case if parsed else ""
    is_unsuitable = is_synthetic(case) and not bundle.card.data.is_synthetic
    is_seen_case = bool(case) and case in bundle.seen_cases
    # The size states nothing new about an image with a known scale.
    is_size_relevant = scale.mpp is None or scale.magnification is not None
    is_size_relevant |= not bundle.card.scale.magnifications
    size = check_size(image.shape[1], image.shape[0], scale.magnification is not None, bundle)
    checks = (
        make_check("BC102") if is_unsuitable else None,
        size if is_size_relevant else None,
        make_check("BC110", case=case) if is_seen_case else check_seen(image, bundle),
        make_check("BC401") if bundle.temperature == 1.0 else None,
    )
    return (check for check in checks if check is not None)


def _merge_checks(explained: list[_Explained], used: list[int], plan: TilePlan) -> Iterator[Check]:
    """Yield the checks of the tiles that apply to the image, and those of the division."""
    n_tiles = len(explained)
    relevant = [explained[i] for i in used] or explained
    counts = Counter(check.code for tile in relevant for check in tile.checks)
    first = {check.code: check for tile in reversed(relevant) for check in tile.checks}
    blocking = [code for code in counts if is_blocked([first[code]])]
    # If all tiles are blocked, the image is blocked for the most frequent reason at least.
    decisive = max(blocking, key=counts.__getitem__, default=None)
    for code, n_found in counts.items():
        if code == decisive or n_found >= _MIN_WARNING_TILES * len(relevant):
            yield first[code]
    if n_tiles == 1:
        return
    yield make_check("BC163", n_tiles=n_tiles, magnification=plan.magnification)
    if used and len(used) < n_tiles:
        reasons = Counter(
            check.title
            for tile in explained
            for check in tile.checks
            if check.severity == Severity.BLOCKING
        )
        yield make_check(
            "BC145",
            n_found=n_tiles - len(used),
            n_tiles=n_tiles,
            reasons=[title for title, _ in reasons.most_common(3)],
        )


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
    )
    return heatmaps, contribution
