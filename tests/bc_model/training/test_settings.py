"""The settings of a run: ranges, defaults that hang on the weights, to JSON and back."""

import dataclasses
import json

import pytest

from bc_model.errors import SettingsError
from bc_model.training.settings import TrainSettings


def make(**changes: object) -> TrainSettings:
    return TrainSettings(data="set", **changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protocol", "random"),
        ("n_folds", 2),
        ("n_folds", 51),
        ("fold", -1),
        ("fold", 5),
        ("head_epochs", -1),
        ("finetune_epochs", 1001),
        ("image_size", (31, 224)),
        ("image_size", (224, 1025)),
        ("image_size", (224,)),
        ("image_size", (224, 224, 3)),
        ("batch_size", 0),
        ("batch_size", 513),
        ("head_learning_rate", 0.0),
        ("head_learning_rate", 1.1),
        ("head_learning_rate", float("nan")),
        ("finetune_learning_rate", 0.0),
        ("unfreeze_from", "stem"),
        ("unfreeze_from", ""),
        ("dense_units", (256, 0)),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", float("nan")),
        ("patience", 0),
        ("seed", -1),
        ("seed", 2**31),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be "):
        make(**{name: value})


@pytest.mark.parametrize(
    "values",
    [
        {"n_folds": 3, "fold": 2},
        {"head_epochs": 0},
        {"finetune_epochs": 0},
        {"image_size": (32, 1024)},
        {"dense_units": ()},
        {"dropout": 0.0},
        {"unfreeze_from": "all"},
        {"unfreeze_from": "conv4_block6"},
        {"seed": 2**31 - 1},
    ],
    ids=str,
)
def test_values_at_the_edge_are_taken(values: dict) -> None:
    settings = make(**values)
    assert {name: getattr(settings, name) for name in values} == values


def test_the_message_says_what_came() -> None:
    with pytest.raises(SettingsError, match=r"dropout must be from 0 to below 1; asked for 1\.5\."):
        make(dropout=1.5)


def test_a_list_is_told_as_a_person_writes_it() -> None:
    with pytest.raises(SettingsError, match=r"each; asked for 256, 0\.$"):
        make(dense_units=(256, 0))


def test_what_no_threads_means_is_said() -> None:
    with pytest.raises(SettingsError, match="0 leaves one core free where there are three"):
        make(threads=-1)


def test_a_run_needs_an_epoch() -> None:
    with pytest.raises(SettingsError, match="Both phases have 0 epochs"):
        make(head_epochs=0, finetune_epochs=0)


@pytest.mark.parametrize("protocol", ["folds", "folds-clean"])
def test_official_folds_need_their_file(protocol: str) -> None:
    with pytest.raises(SettingsError, match=f"'{protocol}' needs an official fold file"):
        make(protocol=protocol)
    assert make(protocol=protocol, folds_file="dsfold1.txt").folds_file == "dsfold1.txt"


def test_a_fold_file_that_nobody_reads_is_refused() -> None:
    with pytest.raises(SettingsError, match="'case' takes no fold file"):
        make(folds_file="dsfold1.txt")


def test_settings_of_a_run_from_before_there_were_fold_files() -> None:
    values = make().as_dict()
    del values["folds_file"]
    assert TrainSettings.from_dict(values) == make()


def test_an_unknown_backbone_lists_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"backbone 'resnet18'. Choose one of resnet50, "):
        make(backbone="resnet18")


def test_imagenet_weights_of_a_backbone_without_any() -> None:
    with pytest.raises(SettingsError, match="no ImageNet weights for tiny; train it from scratch"):
        make(backbone="tiny")


def test_the_model_in_the_box_starts_its_own_backbone_alone() -> None:
    assert not make(weights="bundled").from_scratch
    with pytest.raises(SettingsError, match="vgg16 cannot start from it"):
        make(weights="bundled", backbone="vgg16")


@pytest.mark.parametrize(
    ("weights", "rate", "block"), [("imagenet", 1e-4, "conv5"), ("none", 5e-4, "all")]
)
def test_fine_tuning_defaults_hang_on_the_weights(weights: str, rate: float, block: str) -> None:
    settings = make(weights=weights)
    assert settings.resolved_finetune_rate == rate
    assert settings.resolved_unfreeze_from == block


def test_what_is_set_is_not_replaced_by_a_default() -> None:
    settings = make(weights="none", finetune_learning_rate=1e-5, unfreeze_from="conv4")
    assert settings.resolved_finetune_rate == 1e-5
    assert settings.resolved_unfreeze_from == "conv4"


def test_settings_go_through_json_and_come_back_equal() -> None:
    settings = make(
        backbone="vgg16", image_size=(96, 144), dense_units=(512, 64), unfreeze_from="block4"
    )
    assert TrainSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(SettingsError, match=r"no setting epochs; there are arithmetic, backbone, "):
        TrainSettings.from_dict({"data": "set", "epochs": 3})


def test_reading_checks_ranges_too() -> None:
    with pytest.raises(SettingsError, match="batch_size"):
        TrainSettings.from_dict({"data": "set", "batch_size": 0})


def test_settings_cannot_be_altered() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().seed = 1


def test_arithmetic_has_three_words() -> None:
    with pytest.raises(SettingsError, match="arithmetic must be one of auto, float32, bfloat16"):
        TrainSettings(data="set", arithmetic="float16")
