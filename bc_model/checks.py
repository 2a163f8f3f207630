"""Findings about an image, an evaluation, a dataset or a model, as data.

A `Check` carries a code and its parameters. The sentences are in one table, `MESSAGES`, so that
the app can group, rank and translate them, and tests can assert codes.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from bc_model.utils.formatting import format_count


class Severity(StrEnum):
    """How a check affects a result, from the most to the least serious.

    BLOCKING
        The model cannot interpret the input. No class, probability or heatmap is shown.
    WARNING
        The result is shown, but requires further review.
    INFO
        Context that a reader needs to interpret the result.
    """

    BLOCKING = "blocking"
    WARNING = "warning"
    INFO = "info"


class Message(NamedTuple):
    """The presentation of a code.

    Attributes
    ----------
    severity : Severity
        Default severity of a check with this code.
    title : str
        One to four words for a list of checks.
    text : str
        One or two sentences. `render` fills the fields in braces from the parameters of the check.
    """

    severity: Severity
    title: str
    text: str


_blocking, _warning, _info = (partial(Message, severity) for severity in Severity)

MESSAGES: dict[str, Message] = {
    "BC101": _blocking(
        "Unsupported magnification",
        "The stated magnification is {magnification}X, but the model was trained at "
        "{supported_names:list}.",
    ),
    "BC102": _blocking(
        "Synthetic image",
        "According to its file name, the image is synthetic, but the model was trained on tissue.",
    ),
    "BC103": _blocking("Blank image", "The image is blank or has nearly one color."),
    "BC104": _blocking(
        "Grayscale image", "The image is grayscale, but the model was trained on stained tissue."
    ),
    "BC105": _blocking(
        "Image too small",
        "The image has {width_px} x {height_px} pixels and must be upsampled {factor:.1f} times. "
        "The training images have {training_sizes:list} pixels.",
    ),
    "BC106": _blocking(
        "No image features",
        "The model finds no features in the image. Its answer would be a constant that does not "
        "depend on the image.",
    ),
    "BC110": _warning(
        "Training case",
        "The file name states case {case}, which is part of the training or validation data. The "
        "prediction does not show how the model performs on new cases.",
    ),
    "BC111": _warning(
        "Training image",
        "The image is part of the training or validation data. The prediction does not show how "
        "the model performs on new cases.",
    ),
    "BC112": _warning(
        "Near-duplicate",
        "The image is a near-duplicate of a training or validation image. The prediction does not "
        "show how the model performs on new cases.",
    ),
    "BC120": _warning(
        "Different staining",
        "The staining differs from the training images: {differences:list}. The image may come "
        "from another stain or laboratory, or contain no tissue.",
    ),
    "BC130": _info(
        "Unusual image size",
        "The image has {width_px} x {height_px} pixels, and the training images have "
        "{training_sizes:list} pixels. The scale or the aspect ratio may differ.",
    ),
    "BC131": _warning(
        "Ambiguous image size",
        "In training, only resized full BreakHis frames have {width_px} x {height_px} pixels. A "
        "field that was cropped to this size has another scale.",
    ),
    "BC140": _blocking(
        "Scale unknown",
        "The scale of the image is unknown, and the model was trained at {supported_names:list} "
        "({objectives:list} objective). State the scale to get a prediction.",
    ),
    "BC145": _info(
        "Tiles excluded",
        "{n_found:,} of {n_tiles:count tile} are not part of the prediction: {reasons:list}.",
    ),
    "BC146": _info(
        "For one field",
        "This image was divided into tiles. For {names:list}, cut out one field of view.",
    ),
    "BC147": _info("Needs a class", "This image is blocked, so that it has no {names:list}."),
    "BC150": _warning(
        "Images too small",
        "{n_found:,} of {n_images:count image} must be upsampled at least {min_factor:.1f} times. "
        "The training images have {training_sizes:list} pixels.",
    ),
    "BC151": _warning(
        "Ambiguous image sizes",
        "{n_found:,} of {n_images:count image} have a size that only resized full BreakHis frames "
        "have in training. Fields that were cropped to this size have another scale.",
    ),
    "BC152": _info(
        "Unusual image sizes",
        "{n_found:,} of {n_images:count image} differ in size or aspect ratio from the training "
        "images ({training_sizes:list} pixels).",
    ),
    "BC153": _warning(
        "No image features",
        "The model finds no features in {n_found:,} of {n_images:count image}. Their probability "
        "is a constant that does not depend on the image.",
    ),
    "BC160": _blocking(
        "Image too coarse",
        "The image has {mpp:.3g} µm per pixel. The model needs at most {max_mpp:.3g} µm per pixel, "
        "because it was trained at {supported_names:list}.",
    ),
    "BC161": _blocking(
        "Field too small",
        "The image shows {width_um:,.0f} x {height_um:,.0f} µm of tissue. The model needs at least "
        "{min_width_um:,.0f} x {min_height_um:,.0f} µm.",
    ),
    "BC162": _blocking(
        "Scale looks different",
        "The texture looks {factor:.2f} times {direction} than the stated scale, and up to "
        "{limit:.2f} times is accepted. Check the scale.",
    ),
    "BC163": _info(
        "Divided into tiles",
        "The image is larger than the field of view of the model and was divided into "
        "{n_tiles:count tile} at {magnification}X. The prediction is their mean.",
    ),
    "BC164": _blocking(
        "Field too large",
        "The image needs {n_tiles:,} tiles at the scale of the model, and at most {max_tiles:,} "
        "are possible. Cut out a smaller field of view.",
    ),
    "BC165": _info(
        "Converted from 16 bits",
        "The image has {bits} bits per channel. It was converted to 8 bits from its own smallest "
        "value to its own largest.",
    ),
    "BC166": _warning(
        "Converted from CMYK",
        "The image has the colors of a printer (CMYK). They were converted to RGB without a color "
        "profile, so the staining may look different.",
    ),
    "BC167": _info(
        "One of several pages",
        "The file contains {n_pages} images. Page {page} is used; the default is the largest one.",
    ),
    "BC168": _info(
        "Half resolution",
        "The image has {width_px} x {height_px} pixels, more than {max_megapixels} million, and "
        "was read at half of its resolution. Positions are in these larger pixels.",
    ),
    "BC169": _warning(
        "Scales contradict",
        "The stated scale is {declared}, but the file states {stated} ({source}). Check the scale.",
    ),
    "BC170": _blocking(
        "Out of focus",
        "The image is less sharp than the training images (focus {focus:.2f}, expected at least "
        "{limit:.2f}).",
    ),
    "BC171": _blocking(
        "Too little tissue",
        "Only {percent:.1f} % of the image is tissue. At least {limit:.1f} % is necessary.",
    ),
    "BC172": _blocking(
        "Dark surround",
        "{percent:.0f} % of the image is black. Cut out the field of view without its surround.",
    ),
    "BC173": _warning("Pen marks", "{percent:.0f} % of the image has the color of a pen."),
    "BC174": _blocking(
        "Brown stain",
        "{percent:.0f} % of the image is brown, as in immunohistochemistry. The model was trained "
        "on H&E-stained tissue.",
    ),
    "BC175": _blocking(
        "Dark image",
        "The image is dark (mean brightness {brightness:.0f} of 255), as in fluorescence "
        "microscopy. The model was trained on bright fields.",
    ),
    "BC176": _blocking(
        "Texture unlike tissue",
        "The texture differs from the training images (distance {distance:.2f} times the limit, "
        "{flat_percent:.0f} % of neighboring pixels are equal).",
    ),
    "BC177": _blocking(
        "Color unlike training",
        "The colors differ from the training images (distance {distance:.2f} times the limit).",
    ),
    "BC178": _warning(
        "No class stated",
        "The image is unusual ({reasons:list}), so that the outcome is uncertain at any "
        "probability.",
    ),
    "BC179": _blocking(
        "Unusual tiles",
        "{n_found:,} of {n_tiles:count tile} with tissue are blocked or unusual: {reasons:list}. "
        "More than half must have no such finding.",
    ),
    "BC182": _info(
        "Location of the evidence",
        "{region:list}; {background_percent:.0f} % of the evidence lies on background.",
    ),
    "BC183": _warning(
        "Evidence on background",
        "{region:list}; {background_percent:.0f} % of the evidence lies on background. Above "
        "{max_percent} %, the prediction relies too much on empty glass.",
    ),
    "BC190": _info(
        "Too few cases",
        "The data contain {n_cases:count {class_name} case}. A guaranteed error rate of at most "
        "{alpha:.0%} in each class requires at least {min_cases} cases of each class.",
    ),
    "BC191": _warning(
        "Uncertain",
        "The estimated probability of malignancy is in the uncertain range of the model, {low:.2f} "
        "to {high:.2f}. Errors are frequent in this range.",
    ),
    "BC192": _warning(
        "Views disagree",
        "Rotated, mirrored and shifted views of the image have probabilities of malignancy from "
        "{minimum:.2f} to {maximum:.2f} (standard deviation {sd:.2f}). {n_malignant} of {n_views} "
        "views are predicted malignant.",
    ),
    "BC193": _warning(
        "No uncertain range",
        "No uncertain range reduces the error rate of the remaining images to {target_risk:.0%} or "
        "less. The model predicts a class for every image.",
    ),
    "BC194": _info(
        "Map better than random",
        "Removing the marked regions changes the prediction more than for {n_beaten} of "
        "{n_random} random maps.",
    ),
    "BC195": _warning(
        "No better than random",
        "Removing the marked regions changes the prediction more than for only {n_beaten} of "
        "{n_random} random maps. The map does not show what the prediction depends on.",
    ),
    "BC196": _info(
        "No training images",
        "The training images of the model are not on this machine, neither in its run nor in a "
        "registered dataset.",
    ),
    "BC197": _info(
        "One case only",
        "All available training images are from the case of this image, so there is no other case "
        "to compare with.",
    ),
    "BC198": _info(
        "Center is better",
        "Removing the center of the image changes the prediction more than removing the marked "
        "regions.",
    ),
    "BC201": _warning(
        "Seen in training",
        "The data contain images or cases that the model was trained or selected on. Metrics over "
        "all images overestimate performance.",
    ),
    "BC202": _warning(
        "Possible leakage",
        "The model may have been trained or selected on some of these images or cases. In that "
        "case, the metrics overestimate performance.",
    ),
    "BC203": _warning(
        "Implausibly high metrics",
        "Metrics above {limit}: {metrics:list}. Leakage-free results on such images are lower, so "
        "check for cases or images in both training and test data.",
    ),
    "BC204": _warning(
        "Majority baseline not exceeded",
        "The accuracy is {accuracy:.3f}. Predicting {majority_class} for every image has an "
        "accuracy of {majority_accuracy:.3f}.",
    ),
    "BC205": _warning(
        "Inverted ranking",
        "The ROC AUC is {roc_auc:.3f} ({ci:ci}). Benign images have higher probabilities of "
        "malignancy than malignant images.",
    ),
    "BC206": _warning(
        "One class only", "The data contain no {missing_class} image. Some metrics are undefined."
    ),
    "BC207": _warning(
        "Few cases",
        "The data contain only {n_cases:count {class_name} case}. With fewer than {min_cases} "
        "cases per class, metrics are imprecise and most confidence intervals are too narrow.",
    ),
    "BC208": _warning(
        "Unknown cases",
        "The case is unknown for {n_unknown:,} of {n_images:count image}. Leakage cannot be "
        "excluded, and the confidence intervals are too narrow.",
    ),
    "BC209": _warning(
        "Mixed cases",
        "Case '{case}' contains benign and malignant images ({n_cases:count such case}). "
        "Confidence intervals treat its classes as separate cases, so check the labels.",
    ),
    "BC210": _warning(
        "Duplicate files",
        "The data contain {n_duplicates:count duplicate file} under other paths. Every copy counts "
        "in the metrics.",
    ),
    "BC211": _warning(
        "Initialization leakage",
        "The initial weights of the model were trained on images of its test subset.",
    ),
    "BC212": _info(
        "Cross-validation",
        "The metrics are from {n_folds} models with the same configuration, each tested on cases "
        "that it was not trained on. The model itself was trained on all cases.",
    ),
    "BC213": _warning(
        "Configuration selection",
        "The configuration was revised with the results of this cross-validation. The metrics "
        "overestimate performance by an amount that is only partly known.",
    ),
    "BC214": _info(
        "Nested cross-validation",
        "With a configuration selected without the tested cases, the ROC AUC is {roc_auc:.3f} "
        "({roc_auc_ci:ci}) and the balanced accuracy is {balanced_accuracy:.3f} "
        "({balanced_accuracy_ci:ci}). Evaluated with {network}.",
    ),
    "BC221": _warning(
        "Leakage in a run",
        "{run} was tested on cases that it was trained on, through its split or its initial "
        "weights. A difference can result from this leakage alone.",
    ),
    "BC222": _warning(
        "Compared cases seen",
        "{run} was trained or selected on {n_seen} of the {n_cases:count compared case}, for "
        "example '{case}'. The comparison favors this run.",
    ),
    "BC223": _warning(
        "Different test subsets",
        "The comparison excludes {n_excluded_first:count image} of {first} and "
        "{n_excluded_second:count image} of {second} that the other run did not predict. It uses "
        "the {n_images:count common image}.",
    ),
    "BC224": _info(
        "Multiple comparisons",
        "The {n_intervals} confidence intervals are exploratory and not corrected for multiple "
        "comparisons. About 1 in 20 excludes 0 by chance.",
    ),
    "BC231": _warning(
        "Leakage raises the metric",
        "On {n_images:count common test image}, the {metric} is {difference:.3f} ({ci:ci}) higher "
        "with {leakage_protocol} than with {leakage_free_protocol}. Leakage overestimates "
        "performance.",
    ),
    "BC232": _info(
        "Leakage lowers the metric",
        "On {n_images:count common test image}, the {metric} differs by {difference:+.3f} "
        "({ci:ci}) between {leakage_protocol} and {leakage_free_protocol}. Here the protocol with "
        "leakage is lower.",
    ),
    "BC233": _info(
        "No leakage effect shown",
        "On {n_images:count common test image}, the {metric} differs by {difference:+.3f} "
        "({ci:ci}) between {leakage_protocol} and {leakage_free_protocol}.",
    ),
    "BC234": _info(
        "Leakage effect without interval",
        "On {n_images:count common test image}, the {metric} differs by {difference:+.3f} between "
        "{leakage_protocol} and {leakage_free_protocol}. It has no confidence interval ({reason}), "
        "so it can be chance.",
    ),
    "BC235": _info(
        "Leakage effect undefined",
        "{leakage_protocol} and {leakage_free_protocol} cannot be compared on {n_images:count "
        "common test image} ({reason}).",
    ),
    "BC236": _info(
        "Unpaired protocols",
        "{leakage_protocol} and {leakage_free_protocol} have no paired comparison ({reason}). The "
        "{metric} of {leakage_value} and {leakage_free_value} can differ because of the test "
        "images.",
    ),
    "BC237": _info(
        "Interval scope",
        "The confidence intervals describe these trained models on other cases, not other training "
        "seeds. They are not corrected for multiple comparisons.",
    ),
    "BC241": _warning(
        "Runs without result",
        "Results are available for {n_done} of {n_runs:count run}, and {n_failed:count run} ended "
        "without a result.",
    ),
    "BC242": _info(
        "Runs in progress",
        "Results are available for {n_done} of {n_runs:count run}. The metrics will change.",
    ),
    "BC243": _warning("No metrics", "The metrics of these runs cannot be computed. {reason}"),
    "BC244": _warning(
        "Different images",
        "The runs used different images, so the protocols cannot be compared. Train them again "
        "with the same dataset.",
    ),
    "BC245": _info("Protocol skipped", "The dataset does not support this split. {reason}"),
    "BC246": _info(
        "Fold file missing", "The protocol requires an official fold file, and none was given."
    ),
    "BC247": _warning(
        "Different test images",
        "The {n_groups} configurations were not tested on the same images. Their metrics can "
        "differ because of the test images.",
    ),
    "BC248": _warning(
        "Selection on test data",
        "The {n_groups} configurations were compared on the same test images, so the metrics of "
        "the best one overestimate its performance. Confirm it on other cases.",
    ),
    "BC251": _warning(
        "Unknown case numbers",
        "The file names of {n_unknown:,} of {n_images:count image} contain no case. A case-level "
        "split is not possible, and confidence intervals will be too narrow.",
    ),
    "BC252": _info(
        "Cropped frames",
        "The height is {height_px} px instead of {frame_height_px} px in {n_images:count image} "
        "from {n_cases:count case}. This can identify the slide, so all images are cropped to the "
        "common field of view.",
    ),
    "BC253": _warning(
        "Class-revealing image size",
        "Only {class_name} images have the size {sizes:list}. After resizing, sharpness or "
        "proportions can still reveal the class.",
    ),
    "BC254": _warning(
        "Near-duplicates in two classes",
        "The dataset contains {n_pairs:count near-duplicate pair} with different classes, for "
        "example {path} and {other_path}. Review these images.",
    ),
    "BC255": _warning(
        "Near-duplicates in two cases",
        "The dataset contains {n_pairs:count near-duplicate pair} with different cases, for "
        "example {path} and {other_path}. A case-level split can separate them, so review these "
        "images.",
    ),
    "BC256": _info(
        "Excluded files",
        "The dataset contains {n_excluded:count excluded file}: {reasons:list}. First file: {path} "
        "({detail})",
    ),
    "BC257": _info(
        "Image count differs",
        "The dataset contains {n_images:count {class_name} image} at {magnification}X. BreakHis "
        "contains {n_official:,}.",
    ),
    "BC261": _info(
        "Images not listed",
        "The fold file does not list {n_unlisted:,} of {n_images:count image}. The split excludes "
        "them.",
    ),
    "BC262": _info(
        "Listed images missing",
        "The dataset does not contain {n_missing:count image} that the fold file lists.",
    ),
    "BC263": _warning(
        "Duplicates across subsets",
        "The fold file lists {n_duplicates:count image} for training and, under another name, for "
        "test. The split uses them for test only.",
    ),
    "BC264": _info(
        "Images excluded from training",
        "The training subset excludes {n_excluded:count image} of cases in the test subset.",
    ),
    "BC265": _warning(
        "Few cases in subset",
        "The validation or test subset contains only {n_cases:count case} of a class. Epoch "
        "selection and test metrics depend on very few patients.",
    ),
    "BC266": _warning(
        "Leakage",
        "The training or validation subset contains other images of {n_cases:count case} in the "
        "test subset: {n_shared:,} of {n_test:count test image} ({proportion:.0%}), {n_benign:,} "
        "of {n_benign_test:,} benign. The metrics overestimate performance.",
    ),
    "BC267": _warning(
        "Test images in training",
        "The training or validation subset contains exact duplicates of {n_duplicates:count test "
        "image}. The metrics overestimate performance.",
    ),
    "BC268": _warning(
        "Leakage not prevented",
        "By chance, this split shares no case between training and test. The protocol does not "
        "prevent leakage, so its metrics are marked as metrics with leakage.",
    ),
    "BC269": _warning(
        "Leakage unknown",
        "The file names contain no case, so leakage cannot be measured. Metrics of this split are "
        "marked as metrics with leakage.",
    ),
    "BC270": _info(
        "No leakage",
        "The training and validation subsets contain no image and no case of the {n_test:count "
        "test image}.",
    ),
    "BC271": _warning(
        "Leakage in fold file",
        "Fold file {file}: for {n_shared:,} of {n_test:count test image} ({proportion:.1%}), a "
        "section of the same slide is in training ({n_benign:,} of {n_benign_test:,} benign).",
    ),
    "BC301": _info(
        "Features in distribution",
        "The feature distance marks {proportion:.0%} of the images as out of distribution, "
        "compared with 5% of the validation images (separability {separability:.2f}). Similar "
        "features do not guarantee good predictions.",
    ),
    "BC302": _warning(
        "Partial feature shift",
        "The feature distance marks {proportion:.0%} of the images as out of distribution, "
        "compared with 5% of the validation images (separability {separability:.2f}).",
    ),
    "BC303": _warning(
        "Feature shift",
        "The feature distance marks most images ({proportion:.0%}) as out of distribution, "
        "compared with 5% of the validation images (separability {separability:.2f}).",
    ),
    "BC304": _info(
        "No reference features",
        "The model has no validation features, so the feature distance cannot be measured.",
    ),
    "BC305": _warning(
        "Staining shift",
        "The mean {stain} density differs from the validation images by {distance_sd:+.1f} "
        "standard deviations.",
    ),
    "BC306": _warning(
        "Out-of-distribution staining",
        "The staining of {n_out_of_distribution:,} of {n_images:count image} ({proportion:.0%}) "
        "differs from the training images. Most frequent: {features:list}.",
    ),
    "BC307": _info(
        "Staining in distribution",
        "The staining of all images ({n_images:,}) is similar to the training images.",
    ),
    "BC308": _info(
        "Reference staining",
        "For unseen cases of the training dataset, the staining of {proportion:.1%} of the images "
        "is out of distribution.",
    ),
    "BC314": _warning(
        "Other magnification",
        "The magnification of {n_unsupported:,} of {n_images:count image} is "
        "{magnification_names:list}. The model was trained at {supported_names:list}, and "
        "predictions at other magnifications are not meaningful.",
    ),
    "BC315": _warning(
        "Scale not stated",
        "The scale of the images is unknown. The model was trained at {supported_names:list} "
        "(about {mpp_ranges:list} µm per pixel for frames of 700 px width), and predictions at "
        "other scales are not meaningful.",
    ),
    "BC316": _warning(
        "Model scale not stated",
        "The scale of the training images is unknown. Predictions at other scales are not "
        "meaningful.",
    ),
    "BC317": _warning(
        "No scale stated", "The scales of these images and of the training images are unknown."
    ),
    "BC321": _warning(
        "Seen images",
        "The training or validation data contain the images or cases of {n_seen:,} of "
        "{n_images:count image}.",
    ),
    "BC322": _warning(
        "Probably seen images",
        "The training or validation data contain near-duplicates, or cases of near-duplicates, of "
        "{n_seen:,} of {n_images:count image}.",
    ),
    "BC323": _warning(
        "Copies of training images",
        "The dataset contains {n_near_duplicates:count near-duplicate} of training or validation "
        "images. Most near-duplicates are resized or recompressed copies.",
    ),
    "BC324": _warning(
        "No training image list",
        "The model has no list of its training images. Only the cases in BreakHis file names were "
        "compared with the training cases.",
    ),
    "BC325": _info(
        "Unseen images",
        "The training and validation data do not contain {n_unseen:,} of {n_images:count image}. "
        "Other fields of the same patients and rotated, mirrored or cropped copies are not "
        "recognized.",
    ),
    "BC326": _warning(
        "Unknown initialization images",
        "The model was initialized with weights whose training images are unknown.",
    ),
    "BC331": _info(
        "Metrics of unseen images",
        "The metrics of the {n_images:count unseen image} are reported separately. Only these "
        "images are used to measure the domain shift.",
    ),
    "BC332": _warning(
        "Unseen images without case",
        "The case of {n_unknown:count unseen image} is unknown. The training data can contain "
        "images of the same patients.",
    ),
    "BC333": _warning(
        "Few unseen cases",
        "The unseen images are from {n_benign_cases:count benign case} and "
        "{n_malignant_cases:count malignant case}. With fewer than {min_cases} cases per class, "
        "their metrics are imprecise for new patients.",
    ),
    "BC334": _warning(
        "Mapped labels",
        "The labels were mapped manually: {labels:list}. If they do not separate malignant from "
        "benign tumors, the metrics describe another task than the one of the model.",
    ),
    "BC335": _warning(
        "Images excluded",
        "{n_found:,} of {n_images:count image} are excluded, because the input checks block them: "
        "{reasons:list}. The metrics are those of the other images.",
    ),
    "BC401": _info("Not calibrated", "The probabilities of this model are not calibrated."),
    "BC410": _warning(
        "Initialization leakage",
        "The training data of the initial weights include the cases of {n_seen:,} of {n_test:count "
        "test image}. All metrics of this run overestimate performance.",
    ),
    "BC411": _warning(
        "Initialization leakage",
        "The training data of the initial weights include near-duplicates of {n_seen:,} of "
        "{n_test:count test image}. All metrics of this run overestimate performance.",
    ),
}
"""Code to message. `BC1xx`: input, `BC2xx`: evaluation, `BC3xx`: domain shift, `BC4xx`: model."""

TERMS: dict[str, str] = {
    "blank": "blank image",
    "grayscale": "grayscale image",
    "hematoxylin_paler": "paler hematoxylin",
    "hematoxylin_stronger": "stronger hematoxylin",
    "hematoxylin_more_even": "more even hematoxylin",
    "hematoxylin_more_uneven": "more uneven hematoxylin",
    "eosin_paler": "paler eosin",
    "eosin_stronger": "stronger eosin",
    "eosin_more_even": "more even eosin",
    "eosin_more_uneven": "more uneven eosin",
    "residual_paler": "paler other colors",
    "residual_stronger": "stronger other colors",
    "residual_more_even": "more even other colors",
    "residual_more_uneven": "more uneven other colors",
    "upper_left": "Mostly the upper left",
    "top": "Mostly the upper half",
    "upper_right": "Mostly the upper right",
    "left": "Mostly the left half",
    "center": "Mostly the center",
    "right": "Mostly the right half",
    "lower_left": "Mostly the lower left",
    "bottom": "Mostly the lower half",
    "lower_right": "Mostly the lower right",
    "spread": "Spread over the image",
}
"""Terms for parameter values that are codes. The format `list` of `render` inserts them."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Parameters
    ----------
    code : str
        Key of `MESSAGES`, such as 'BC101'.
    severity : Severity
    params : mapping of str to value
        JSON-safe values for the message. The names carry units.

    Raises
    ------
    ValueError
        If `MESSAGES` does not contain the code.

    Examples
    --------
    >>> check = make_check("BC101", magnification=40, supported_names=["100X", "200X"])
    >>> check.severity
    <Severity.BLOCKING: 'blocking'>
    >>> check.message
    'The stated magnification is 40X, but the model was trained at 100X and 200X.'
    """

    code: str
    severity: Severity
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.code not in MESSAGES:
            raise ValueError(f"Invalid check code '{self.code}'. Expected a key of MESSAGES.")

    @property
    def is_blocking(self) -> bool:
        """True if no class, probability or heatmap is shown."""
        return self.severity == Severity.BLOCKING

    @property
    def title(self) -> str:
        """Short title from the message table."""
        return MESSAGES[self.code].title

    @property
    def message(self) -> str:
        """One or two sentences that contain the parameters."""
        return render(MESSAGES[self.code].text, self.params)


def make_check(code: str, severity: Severity | None = None, **params: Any) -> Check:
    """Return a check, by default with the severity of its code.

    Raises
    ------
    KeyError
        If `MESSAGES` does not contain the code.
    """
    return Check(code, severity or MESSAGES[code].severity, params)


def check_to_json(check: Check) -> dict[str, Any]:
    """Return a check as JSON-safe values, including its message."""
    return {
        "code": check.code,
        "severity": check.severity.value,
        "params": dict(check.params),
        "message": check.message,
    }


def check_from_json(data: Mapping[str, Any]) -> Check:
    """Return the check that `check_to_json` converted.

    Raises
    ------
    KeyError, ValueError
        If a value is missing, or if the code or the severity does not exist.
    """
    return Check(data["code"], Severity(data["severity"]), dict(data["params"]))


def is_blocked(checks: Iterable[Check]) -> bool:
    """Return whether at least one check is blocking."""
    return any(check.severity == Severity.BLOCKING for check in checks)


def by_severity(checks: Iterable[Check]) -> dict[Severity, list[Check]]:
    """Return checks grouped by severity, most serious first, without empty groups."""
    checks = list(checks)
    groups = {severity: [c for c in checks if c.severity == severity] for severity in Severity}
    return {severity: group for severity, group in groups.items() if group}


def render(text: str, params: Mapping[str, Any]) -> str:
    """Return a message with its fields filled in.

    Parameters
    ----------
    text : str
        Message with fields in braces. Format specifications are those of Python, ``count NOUN``
        (number and noun, plural unless 1), ``list`` (items joined with commas and 'and', codes
        replaced by their `TERMS`) and ``ci`` (95 % confidence interval, or None).
    params : mapping of str to value
        Values of the fields.

    Examples
    --------
    >>> render("{n_cases:count case} at {names:list}", {"n_cases": 2, "names": ["100X", "200X"]})
    '2 cases at 100X and 200X'
    >>> render("{area:.2f} ({ci:ci})", {"area": 0.9, "ci": [0.81, 0.95]})
    '0.90 (95 % CI 0.810 to 0.950)'
    """
    return _Formatter().vformat(text, (), params)


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec.startswith("count "):
            return format_count(value, format_spec.removeprefix("count "))
        if format_spec == "list":
            items = [TERMS.get(item, str(item)) for item in value]
            return " and ".join([", ".join(items[:-1]), items[-1]] if items[1:] else items)
        if format_spec == "ci":
            return "no 95 % CI" if value is None else f"95 % CI {value[0]:.3f} to {value[1]:.3f}"
        return super().format_field(value, format_spec)
