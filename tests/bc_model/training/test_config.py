"""Training options: declarations, validation, text and JSON."""

import dataclasses
import json

import pytest

from bc_model.errors import ConfigError, RecordError
from bc_model.training.config import OPTIONS, TrainingConfig
from bc_model.utils.serialization import from_json, to_json


def make(**changes: object) -> TrainingConfig:
    return TrainingConfig(data="set", **changes)


@pytest.mark.parametrize("name", OPTIONS)
def test_option_has_a_short_label_and_help(name: str) -> None:
    option = OPTIONS[name]
    assert 1 <= len(option.label.split()) <= 3
    assert 1 <= len(option.help.split()) <= 15
    assert option.help.endswith(".")
    assert option.group in {"Data", "Model", "Schedule", "Compute"}


def test_options_are_the_fields_and_their_defaults_are_valid() -> None:
    fields = dataclasses.fields(TrainingConfig)
    assert list(OPTIONS) == [field.name for field in fields]
    defaults = {name: option.default for name, option in OPTIONS.items() if name != "data"}
    assert make() == TrainingConfig("set", **defaults)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("protocol", "random", "one of case, folds-clean, folds, folder, image"),
        ("backbone", "resnet18", "one of resnet50, efficientnetb0, vgg16, tiny"),
        ("compute_dtype", "float16", "one of auto, float32, bfloat16"),
        ("n_folds", 2, "3 <= n_folds <= 50"),
        ("n_folds", 51, "3 <= n_folds <= 50"),
        ("test_fold", -1, "0 <= test_fold"),
        ("test_fold", 5, "0 <= test_fold < 5"),
        ("head_epochs", -1, "0 <= head_epochs <= 1000"),
        ("finetune_epochs", 1001, "0 <= finetune_epochs <= 1000"),
        ("image_size", (31, 224), "2 whole numbers with 32 <= image_size <= 1024"),
        ("image_size", (224, 1025), "2 whole numbers with 32 <= image_size <= 1024"),
        ("image_size", (224,), "2 whole numbers with 32 <= image_size <= 1024"),
        ("image_size", (224, 224, 3), "2 whole numbers with 32 <= image_size <= 1024"),
        ("batch_size", 0, "1 <= batch_size <= 512"),
        ("batch_size", 513, "1 <= batch_size <= 512"),
        ("head_learning_rate", 0.0, "0 < head_learning_rate <= 1"),
        ("head_learning_rate", 1.1, "0 < head_learning_rate <= 1"),
        ("head_learning_rate", float("nan"), "0 < head_learning_rate <= 1"),
        ("finetune_learning_rate", 0.0, "0 < finetune_learning_rate <= 1"),
        ("unfreeze_from", "stem", "one of conv1, conv2, conv3, conv4, conv5, all"),
        ("unfreeze_from", "", "one of conv1, conv2, conv3, conv4, conv5, all"),
        ("dense_units", (256, 0), "whole numbers with 1 <= dense_units <= 8192"),
        ("dropout", 1.0, "0 <= dropout < 1"),
        ("dropout", -0.1, "0 <= dropout < 1"),
        ("dropout", float("nan"), "0 <= dropout < 1"),
        ("patience", 0, "1 <= patience <= 1000"),
        ("augmented_copies", 65, "1 <= augmented_copies <= 64"),
        ("threads", -1, "0 <= threads <= 1024"),
        ("seed", -1, "0 <= seed <= 2147483647"),
        ("seed", 2**31, "0 <= seed <= 2147483647"),
    ],
)
def test_config_value_out_of_range_raises_with_the_rule(
    name: str, value: object, rule: str
) -> None:
    with pytest.raises(ConfigError) as error:
        make(**{name: value})
    assert str(error.value).startswith(f"Invalid {name} ")
    assert f". Expected {rule}. Use " in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("seed", "1", "a whole number"),
        ("seed", True, "a whole number"),
        ("seed", None, "a whole number"),
        ("dropout", "half", "a number"),
        ("cache_features", 1, "true or false"),
        ("weights", None, "text"),
        ("dense_units", (0.5,), "whole numbers"),
    ],
)
def test_config_value_of_another_type_raises_with_the_type(
    name: str, value: object, rule: str
) -> None:
    with pytest.raises(ConfigError, match=f"^Invalid {name} .* Expected {rule}"):
        make(**{name: value})


@pytest.mark.parametrize(
    "values",
    [
        {"n_folds": 3, "test_fold": 2},
        {"head_epochs": 0},
        {"finetune_epochs": 0},
        {"image_size": (32, 1024)},
        {"dense_units": ()},
        {"dropout": 0.0},
        {"dropout": 0},
        {"unfreeze_from": "all"},
        {"unfreeze_from": "conv4_block6"},
        {"seed": 2**31 - 1},
    ],
    ids=str,
)
def test_config_value_at_a_bound_is_valid(values: dict) -> None:
    config = make(**values)
    assert {name: getattr(config, name) for name in values} == values


def test_config_error_contains_the_value() -> None:
    with pytest.raises(ConfigError) as error:
        make(test_fold=7)
    assert str(error.value) == (
        "Invalid test_fold 7. Expected 0 <= test_fold < 5. Use a fold from 0 to 4."
    )
    with pytest.raises(ConfigError, match=r"^Invalid dense_units 256, 0\. "):
        make(dense_units=(256, 0))


def test_config_without_epochs_raises() -> None:
    with pytest.raises(ConfigError, match="Expected at least one epoch"):
        make(head_epochs=0, finetune_epochs=0)


@pytest.mark.parametrize("protocol", ["folds", "folds-clean"])
def test_config_official_folds_require_a_file(protocol: str) -> None:
    with pytest.raises(ConfigError, match=f"'{protocol}' needs an official fold file"):
        make(protocol=protocol)
    config = make(protocol=protocol, official_fold_file="dsfold1.txt")
    assert config.official_fold_file == "dsfold1.txt"


def test_config_fold_file_without_its_protocol_raises() -> None:
    with pytest.raises(ConfigError, match="'case' does not use a fold file"):
        make(official_fold_file="dsfold1.txt")


def test_config_imagenet_weights_of_a_backbone_without_them_raise() -> None:
    with pytest.raises(ConfigError, match="Invalid weights 'imagenet' for tiny"):
        make(backbone="tiny")


def test_config_bundled_weights_of_another_backbone_raise() -> None:
    assert not make(weights="bundled").from_scratch
    with pytest.raises(ConfigError, match="Invalid weights 'bundled' for vgg16"):
        make(weights="bundled", backbone="vgg16")


@pytest.mark.parametrize(
    ("weights", "rate", "block"), [("imagenet", 1e-4, "conv5"), ("none", 5e-4, "all")]
)
def test_finetune_defaults_depend_on_the_weights(weights: str, rate: float, block: str) -> None:
    config = make(weights=weights)
    assert config.resolved_finetune_rate == rate
    assert config.resolved_unfreeze_from == block


def test_finetune_values_replace_the_defaults() -> None:
    config = make(weights="none", finetune_learning_rate=1e-5, unfreeze_from="conv4")
    assert config.resolved_finetune_rate == 1e-5
    assert config.resolved_unfreeze_from == "conv4"


def test_from_json_reverses_to_json() -> None:
    config = make(
        backbone="vgg16", image_size=(96, 144), dense_units=(512, 64), unfreeze_from="block4"
    )
    assert from_json(TrainingConfig, json.loads(json.dumps(to_json(config)))) == config


def test_from_json_with_unknown_key_raises() -> None:
    with pytest.raises(RecordError, match="unknown key 'epochs'"):
        from_json(TrainingConfig, to_json(make()) | {"epochs": 3})


def test_from_json_with_value_out_of_range_raises() -> None:
    with pytest.raises(RecordError, match="Invalid batch_size 0"):
        from_json(TrainingConfig, to_json(make()) | {"batch_size": 0})


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().seed = 1


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("head_learning_rate", "1e-3", 0.001),
        ("finetune_learning_rate", "0.5", 0.5),
        ("finetune_learning_rate", "default", None),
        ("unfreeze_from", "default", None),
        ("unfreeze_from", "conv5", "conv5"),
        ("seed", "7", 7),
        ("image_size", "64x96", (64, 96)),
        ("dense_units", "512+128", (512, 128)),
        ("dense_units", "512, 128", (512, 128)),
        ("dense_units", "256", (256,)),
        ("dense_units", "", ()),
        ("cache_features", "False", False),
        ("deterministic", "true", True),
        ("weights", "default", "default"),
    ],
)
def test_parse_returns_the_value_and_format_reverses_it(
    name: str, text: str, value: object
) -> None:
    parsed = OPTIONS[name].parse(text)
    assert parsed == value
    assert type(parsed) is type(value)
    assert OPTIONS[name].parse(OPTIONS[name].format(value)) == value


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("seed", "1.5", "a whole number"),
        ("dropout", "half", "a number"),
        ("cache_features", "on", "true or false"),
        ("image_size", "64*64", "whole numbers separated by x"),
        ("finetune_learning_rate", "", "a number"),
    ],
)
def test_parse_invalid_text_raises_with_the_type(name: str, text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"Invalid {name} .* Expected {rule}"):
        OPTIONS[name].parse(text)
