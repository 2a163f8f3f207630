"""The prediction for one image, with its tiles, heatmaps and checks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bc_model.checks import Check
from bc_model.contribution_map import ContributionMap
from bc_model.data.declared_scale import UNKNOWN_SCALE, DeclaredScale
from bc_model.gradcam import Heatmap
from bc_model.inference.evidence_location import EvidenceLocation
from bc_model.inference.input_reference import Measured
from bc_model.inference.tiling import Tile

INPUT_WARNINGS = frozenset({"BC162", "BC170", "BC176", "BC177", "BC179"})
"""Codes of input checks with a limit for a warning and one that blocks. No class is stated for an
image beyond the first limit, because the error rate of the model on such images is unknown."""

NO_TISSUE = frozenset({"BC103", "BC171"})
"""Codes of checks that find glass instead of tissue."""

FORCED_LABEL = "Blocked, shown anyway"
"""Mark of a prediction that is shown although a blocking check failed."""

_REVEALING = frozenset({"BC145", "BC163", "BC178", "BC183", "BC191"})
"""Codes of checks that are stated only beside a result."""


@dataclass(frozen=True)
class TilePrediction:
    """The prediction for one field of view of an image.

    Attributes
    ----------
    tile : Tile
        Position and size in the image.
    prob_malignant : float or None
        Probability in [0, 1], after temperature scaling. None if the tile is excluded.
    predicted_class : {'benign', 'malignant'} or None
        Class at the decision threshold. None if the tile is excluded.
    checks : tuple of Check
        Failed checks of the tile. It is excluded if one of them is blocking, unless most tiles with
        tissue are blocked.
    measured : dict of str to Measured
        What the checks of the tile measured, with the limits.
    """

    tile: Tile
    prob_malignant: float | None
    predicted_class: str | None
    checks: tuple[Check, ...]
    measured: dict[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, without the image itself.

    Attributes
    ----------
    name : str
        File name of the image; empty if it was not given.
    width_px, height_px : int
        Size of the image.
    logits : tuple of float
        Outputs of the network in the order of `CLASSES`, before temperature scaling. For an image
        with several tiles, the mean over the used tiles. Empty if a blocking check failed.
    prob_malignant : float or None
        Probability in [0, 1] of `logits`, after temperature scaling. None if a blocking check
        failed.
    predicted_class : {'benign', 'malignant'} or None
        Class at the decision threshold of the model. None if a blocking check failed.
    heatmaps : dict of str to Heatmap
        Grad-CAM heatmap of each class. Empty if a blocking check failed.
    contribution : ContributionMap or None
        Contribution of each cell to the margin. None if a blocking check failed.
    location : EvidenceLocation or None
        Where the evidence for the predicted class lies. None if a blocking check failed, or if no
        cell supports the class.
    checks : tuple of Check
        Failed checks, the most serious first.
    uncertain_band : (float, float) or None
        Ends of the probabilities that are uncertain. None if the model has no such range.
    scale : DeclaredScale
        Scale of the image file as it was declared.
    reduction : int
        Pixels of the file that became one pixel of the image in each direction.
    estimated_mpp : float or None
        µm per pixel of the image that its texture suggests. None without an estimator.
    tiles : tuple of TilePrediction
        The fields of view of the image, at least one. Empty if a blocking check failed.
    measured : dict of str to Measured
        What the input checks measured, with the limits, of an image with one field of view.
    is_forced : bool
        True if the prediction is shown although a blocking check failed.
    """

    name: str
    width_px: int
    height_px: int
    logits: tuple[float, ...]
    prob_malignant: float | None
    predicted_class: str | None
    heatmaps: dict[str, Heatmap]
    contribution: ContributionMap | None
    location: EvidenceLocation | None
    checks: tuple[Check, ...]
    uncertain_band: tuple[float, float] | None = None
    scale: DeclaredScale = UNKNOWN_SCALE
    reduction: int = 1
    estimated_mpp: float | None = None
    tiles: tuple[TilePrediction, ...] = ()
    measured: dict[str, Measured] = field(default_factory=dict)
    is_forced: bool = False

    @property
    def mpp(self) -> float | None:
        """µm per pixel of the image with `width_px` pixels; None if it is unknown."""
        return self.scale.reduced(self.reduction).mpp

    @property
    def outcome(self) -> str | None:
        """'benign', 'malignant' or 'uncertain'; None if a blocking check failed.

        Uncertain are probabilities inside of the uncertain range, and images with a warning of one
        of the checks `INPUT_WARNINGS`.
        """
        if self.prob_malignant is None:
            return None
        is_unusual = any(check.code in INPUT_WARNINGS for check in self.checks)
        is_uncertain = is_inside(self.prob_malignant, self.uncertain_band)
        is_uncertain |= is_unusual and not self.is_forced
        return "uncertain" if is_uncertain else self.predicted_class

    @property
    def is_classified(self) -> bool:
        """True if a class is shown: no blocking check failed, or `is_forced`."""
        return self.predicted_class is not None

    def hide_if_blocked(self) -> Prediction:
        """Return the prediction without its result if a blocking check failed, else itself."""
        if not self.is_forced:
            return self
        return replace(
            self,
            logits=(),
            prob_malignant=None,
            predicted_class=None,
            heatmaps={},
            contribution=None,
            location=None,
            checks=tuple(check for check in self.checks if check.code not in _REVEALING),
            tiles=(),
            is_forced=False,
        )

    @property
    def is_tiled(self) -> bool:
        """True if the image was divided into several tiles."""
        return len(self.tiles) > 1

    @property
    def max_prob_malignant(self) -> float | None:
        """Largest probability of a tile."""
        return max(self._tile_probs, default=None)

    @property
    def malignant_proportion(self) -> float | None:
        """Proportion of the used tiles that are predicted malignant."""
        used = [tile.predicted_class for tile in self.tiles if tile.predicted_class]
        return used.count("malignant") / len(used) if used else None

    @property
    def _tile_probs(self) -> list[float]:
        return [tile.prob_malignant for tile in self.tiles if tile.prob_malignant is not None]


def is_inside(probability: float, band: tuple[float, float] | None) -> bool:
    """Return whether a probability is inside of a range, without its ends.

    Examples
    --------
    >>> is_inside(0.5, (0.2, 0.8)), is_inside(0.8, (0.2, 0.8)), is_inside(0.5, None)
    (True, False, False)
    """
    return band is not None and band[0] < probability < band[1]
