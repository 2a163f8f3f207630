"""External datasets: metrics, and the domain shift from the training data."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bc_model.checks import make_check
from bc_model.data.dataset import Dataset, load_dataset
from bc_model.data.dataset_rules import parse_rules
from bc_model.data.splits import read_split
from bc_model.data.stain import STAIN_COLUMNS
from bc_model.data.synthetic import generate_dataset
from bc_model.evaluation.domain_shift import DomainShift, measure_domain_shift, reference_distances
from bc_model.evaluation.external import evaluate_external
from bc_model.evaluation.features import FeatureTable
from bc_model.evaluation.report import EvaluationReport, read_report
from bc_model.inference.batching import ModelOutputs
from bc_model.inference.bundle import Bundle, open_bundle
from bc_model.inference.engine import Engine
from bc_model.inference.model_card import ModelCard, Scale, StainStatistics
from bc_model.training.run import Run
from bc_model.utils.serialization import dumps, from_json, loads, to_json

LABELS = "0=benign,1=malignant"
RULES = parse_rules(LABELS)


def codes(report: EvaluationReport) -> list[str]:
    return [check.code for check in report.checks]


@pytest.fixture(scope="module")
def bundle(tiny_run: Run) -> Bundle:
    return open_bundle(tiny_run.path)


def feature_table(n: int = 60, *, seed: int = 0, offset: float = 0.0) -> FeatureTable:
    """Return features of 12 cases; `offset` shifts one feature and the staining."""
    rng = np.random.default_rng(seed)
    case = np.arange(n) % 12
    features = 1.0 + 0.3 * rng.random((12, 8))[case] + 0.3 * rng.random((n, 8))
    features[:, 0] += offset
    return FeatureTable(
        path=np.array([f"{seed}-{i}" for i in range(n)]),
        case=case.astype(str),
        class_name=np.array(["benign"] * n),
        features=features.astype(np.float32),
        stain=rng.normal(0.4 + offset, 0.05, (n, 6)),
    )


def shift_of(
    bundle: Bundle,
    table: FeatureTable,
    reference: FeatureTable | None,
    magnification: int | None = None,
    first_gray: int = 10**9,
) -> DomainShift:
    images = pd.DataFrame({"width_px": 50, "height_px": 50}, index=range(len(table.path)))
    images["magnification"] = pd.array([magnification] * len(images), dtype="Int64")
    logits = np.zeros((len(table.path), 2), np.float32)
    is_gray = np.arange(len(logits)) >= first_gray
    return measure_domain_shift(
        bundle,
        images,
        ModelOutputs(logits, table.features, table.stain, is_gray, np.zeros(len(logits), bool)),
        reference,
    )


def test_reference_distances_equal_manual_values() -> None:
    angles = np.radians([0, 90, 180])
    table = FeatureTable(
        path=np.array(list("abc")),
        case=np.array(["x", "x", "y"]),
        class_name=np.array(["benign"] * 3),
        features=np.stack([np.cos(angles), np.sin(angles)], axis=1),
        stain=np.zeros((3, 6)),
    )
    # Distance to other cases: a to c is 2, b to c is 1, and c to a and b the mean of both.
    assert reference_distances(table) == pytest.approx([2.0, 1.0, 1.5], abs=1e-6)
    alone = FeatureTable(
        table.path, np.array(["x"] * 3), table.class_name, table.features, table.stain
    )
    assert reference_distances(alone).size == 0


def test_measure_domain_shift_similar_images_are_in_distribution(bundle: Bundle) -> None:
    found = shift_of(bundle, feature_table(400, seed=1), feature_table())
    # The twelve cases are new, with about the same distances as the reference.
    assert found.separability == pytest.approx(0.5, abs=0.15)
    assert found.ood_proportion < 0.25  # type: ignore[operator]
    assert (found.n_images, found.n_reference_images, found.n_reference_cases) == (400, 60, 12)
    assert all(abs(one.distance) < 0.5 for one in found.stain)


def test_measure_domain_shift_other_images_are_out_of_distribution(bundle: Bundle) -> None:
    found = shift_of(bundle, feature_table(400, seed=1, offset=1.0), feature_table())
    assert found.ood_proportion == 1.0
    assert found.separability == 1.0
    assert [one.name for one in found.stain] == list(STAIN_COLUMNS)
    assert [one.label.split(", ")[1] for one in found.stain[:2]] == ["mean", "spread"]
    assert found.stain[0].distance == pytest.approx(20, rel=0.3)
    checks = {check.code: check for check in found.checks}
    assert checks["BC303"].params["proportion"] == 1.0
    assert checks["BC305"].params["distance_sd"] > 1
    assert checks["BC152"].params["n_found"] == 400
    back = loads(DomainShift, dumps(found))
    assert back == found


def test_measure_domain_shift_no_reference_returns_check(bundle: Bundle) -> None:
    found = shift_of(bundle, feature_table(), None)
    assert (found.ood_proportion, found.separability, found.stain, found.n_reference_images) == (
        None,
        None,
        (),
        0,
    )
    assert found.checks[0].code == "BC304"


def card_with_stain(bundle: Bundle, proportion: float | None = None) -> ModelCard:
    """Return the card of the model with other stain statistics."""
    values = dict.fromkeys(STAIN_COLUMNS, (0.3, 0.4, 0.5))
    stain = StainStatistics((0.01, 0.5, 0.99), values, 0.0, proportion)
    return replace(bundle.card, input=replace(bundle.card.input, stain=stain))


def test_measure_domain_shift_counts_unusual_staining(bundle: Bundle) -> None:
    card = card_with_stain(bundle)
    table = feature_table()
    table.stain[:] = 0.4
    table.stain[:9, STAIN_COLUMNS.index("eosin_mean")] = 0.2  # The limit is 0.25.
    table.stain[7:12, 1] = 0.6

    found = shift_of(Bundle(bundle.folder, card), table, None, first_gray=58)

    assert found.n_unusual_staining == 14
    (check,) = (check for check in found.checks if check.code == "BC306")
    assert (check.params["n_out_of_distribution"], check.params["n_images"]) == (14, 60)
    assert check.params["features"] == ["paler eosin (9)", "more uneven hematoxylin (5)"]
    back = loads(DomainShift, dumps(found))
    assert back == found
    older = Bundle(bundle.folder, replace(card, input=replace(card.input, stain=None)))
    assert shift_of(older, table, None).n_unusual_staining is None


def test_measure_domain_shift_reports_expected_staining(bundle: Bundle) -> None:
    card = card_with_stain(bundle, 0.021)
    table = feature_table()
    table.stain[:] = 0.4
    table.stain[:9, 0] = 0.2

    found = shift_of(Bundle(bundle.folder, card), table, None)

    assert make_check("BC308", proportion=0.021) in found.checks


def test_measure_domain_shift_unknown_scale_returns_check(bundle: Bundle) -> None:
    card = replace(bundle.card, scale=Scale((200,), {"200": (0.5, 0.6)}, "x"))
    found = shift_of(Bundle(bundle.folder, card), feature_table(), None)
    check = make_check("BC315", supported_names=["200X"], mpp_ranges=["0.5-0.6"])
    assert found.checks[-1] == check


def test_measure_domain_shift_other_magnification_returns_check(bundle: Bundle) -> None:
    card = replace(bundle.card, scale=Scale((200,), {"200": (0.5, 0.6)}, "x"))
    ours = Bundle(bundle.folder, card)
    n = len(feature_table().path)
    found = shift_of(ours, feature_table(), None, magnification=100)
    assert found.checks[-1] == make_check(
        "BC314",
        n_unsupported=n,
        n_images=n,
        magnification_names=["100X"],
        supported_names=["200X"],
    )
    same = shift_of(ours, feature_table(), None, magnification=200)
    assert not {"BC314", "BC315", "BC316", "BC317"} & {check.code for check in same.checks}


@pytest.fixture(scope="module")
def patches(synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return new synthetic images in folders 0 and 1, without BreakHis names."""
    source = tmp_path_factory.mktemp("other")
    generate_dataset(source / "set", n_cases=8, images_per_case=3, size=(50, 50), seed=7)
    for path in (source / "set").rglob("*.png"):
        label = "0" if "_B_" in path.name else "1"
        folder = source / "patches" / path.name.split("-")[2] / label
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name.removeprefix("SOB_"))
    return source / "patches"


def test_evaluate_external_mapped_dataset_returns_report(
    bundle: Bundle, patches: Path, tmp_path: Path
) -> None:
    report = evaluate_external(Engine(bundle), load_dataset(patches, rules=RULES))
    assert (report.protocol, report.n_images, report.n_cases) == ("external dataset", 24, 0)
    assert not report.has_leakage
    assert "BC208" in codes(report)
    assert make_check("BC334", labels=["'0' as benign", "'1' as malignant"]) in report.checks
    assert "over images" in report.metrics["accuracy"].method
    assert report.domain_shift is not None
    assert report.domain_shift.sizes == {"50x50": 24}
    assert make_check("BC325", n_unseen=24, n_images=24) in report.checks
    assert report.checks[-len(report.domain_shift.checks) :] == report.domain_shift.checks
    assert report.case_metrics is None
    report.save(tmp_path)
    assert read_report(tmp_path) == report
    assert from_json(EvaluationReport, to_json(report)) == report


def test_evaluate_external_seen_cases_have_leakage(bundle: Bundle, synthetic_dataset: Path) -> None:
    report = evaluate_external(Engine(bundle), load_dataset(synthetic_dataset))
    assert report.has_leakage
    # Of 10 cases with 3 images each, three of five folds train and one validates.
    assert report.domain_shift is not None
    assert report.checks[0].code == "BC201"
    n_before = len(report.checks) - len(report.domain_shift.checks)
    # The test subset has two stratified cases.
    assert report.checks[n_before - 3 :] == (
        make_check("BC321", n_seen=24, n_images=30),
        make_check("BC331", n_images=6),
        make_check("BC333", n_benign_cases=1, n_malignant_cases=1, min_cases=10),
        *report.domain_shift.checks,
    )
    assert report.domain_shift.n_images == 6


def test_evaluate_external_unseen_images_are_a_subgroup(
    bundle: Bundle, synthetic_dataset: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(synthetic_dataset)
    report = evaluate_external(Engine(bundle), dataset)
    new, known = [group for group in report.subgroups if group.kind == "seen"]
    assert (new.name, new.n_images, new.n_cases) == ("unseen in training", 6, 2)
    assert (known.name, known.n_images, known.n_cases) == ("seen in training", 24, 8)

    unseen = dataset.images[~dataset.images["case"].isin(bundle.seen_cases)]
    alone = Dataset(dataset.root, unseen.reset_index(drop=True), pd.DataFrame())
    unseen_only = evaluate_external(Engine(bundle), alone)
    assert not unseen_only.has_leakage
    assert "seen" not in {group.kind for group in unseen_only.subgroups}
    assert unseen_only.domain_shift == report.domain_shift
    for name, metric in new.metrics.items():
        assert metric == unseen_only.metrics[name]

    report.save(tmp_path)
    assert read_report(tmp_path) == report
    assert "BC331" not in codes(unseen_only)


@pytest.fixture
def renamed(tiny_run: Run, synthetic_dataset: Path, tmp_path: Path) -> Path:
    """Return two training images of each class and one test image without BreakHis names."""
    split = read_split(tiny_run.split_file)
    training = split[split["subset"] == "train"].groupby("class").head(2)
    test = split[split["subset"] == "test"].head(1)
    for number, row in enumerate(pd.concat([training, test]).to_dict("records")):
        folder = tmp_path / "renamed" / row["class"]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(synthetic_dataset / row["path"], folder / f"{number}.png")
    return tmp_path / "renamed"


def test_evaluate_external_renamed_training_images_have_leakage(
    bundle: Bundle, renamed: Path
) -> None:
    report = evaluate_external(Engine(bundle), load_dataset(renamed))
    assert report.has_leakage
    for check in (
        make_check("BC321", n_seen=4, n_images=5),
        make_check("BC325", n_unseen=1, n_images=5),
        make_check("BC331", n_images=1),
        make_check("BC332", n_unknown=1),
    ):
        assert check in report.checks


def test_evaluate_external_copied_model_finds_seen_images(
    bundle: Bundle, renamed: Path, tmp_path: Path
) -> None:
    alone = open_bundle(shutil.copytree(bundle.folder, tmp_path / "alone" / "model"))
    report = evaluate_external(Engine(alone), load_dataset(renamed))

    assert report.has_leakage
    assert make_check("BC321", n_seen=4, n_images=5) in report.checks


def test_evaluate_external_recompressed_images_returns_check(
    bundle: Bundle, synthetic_dataset: Path, tiny_run: Run, tmp_path: Path
) -> None:
    split = read_split(tiny_run.split_file)
    for number, row in enumerate(split[split["subset"] == "train"].to_dict("records")):
        folder = tmp_path / "packed" / row["class"]
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(synthetic_dataset / row["path"]) as image:
            half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        half.convert("RGB").save(folder / f"{number}.jpg", quality=90)
    report = evaluate_external(Engine(bundle), load_dataset(tmp_path / "packed"))

    assert report.has_leakage
    (check,) = (check for check in report.checks if check.code == "BC323")
    assert check.params["n_near_duplicates"] > 0.8 * report.n_images
    assert report.checks[0].code == "BC202"


def test_evaluate_external_excluded_files_returns_check(
    bundle: Bundle, patches: Path, tmp_path: Path
) -> None:
    set_of_some = shutil.copytree(patches, tmp_path / "some")
    one = next(set_of_some.rglob("*.png"))
    (one.parent / "broken.png").write_bytes(b"Dear colleague")
    shutil.copy(one, one.with_name("again.png"))
    report = evaluate_external(Engine(bundle), load_dataset(set_of_some, rules=RULES))

    (check,) = (check for check in report.checks if check.code == "BC256")
    assert check.params["n_excluded"] == 2
    assert "1 duplicate" in check.params["reasons"]


def test_evaluate_external_same_case_name_is_another_case(bundle: Bundle, patches: Path) -> None:
    first = min(patches.iterdir())
    images = shutil.copytree(first, patches.parent / "clash" / min(bundle.seen_cases)).parent
    dataset = load_dataset(images, rules=parse_rules(LABELS, "folder:2"))
    assert set(dataset.images["case"]) <= bundle.seen_cases
    report = evaluate_external(Engine(bundle), dataset)
    assert not report.has_leakage


@pytest.mark.real
def test_evaluate_external_real_patches_return_checks(bundle: Bundle, real_data: Path) -> None:
    dataset = load_dataset(real_data / "idc_patches", rules=RULES)
    report = evaluate_external(Engine(bundle), dataset)
    (gray,) = report.excluded
    assert "BC104" in gray.codes
    assert report.n_images == len(dataset.images) - 1
    assert {"BC208", "BC334"} <= set(codes(report))
