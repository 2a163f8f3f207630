"""Training options of the command line, generated from the fields of `TrainingConfig`."""

from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from bc_model.cli.options import build_config, training_options
from bc_model.errors import ConfigError
from bc_model.training.config import OPTIONS, TrainingConfig


@pytest.fixture
def make_config(tmp_path: Path):
    """Return a function that builds the configuration for some arguments."""
    found: list[TrainingConfig] = []

    @click.command()
    @training_options()
    def read(**options: object) -> None:
        found.append(build_config(tmp_path, options))

    def make(*arguments: str) -> TrainingConfig:
        CliRunner().invoke(read, arguments, catch_exceptions=False, standalone_mode=False)
        return found[-1]

    return make


def test_build_config_image_size_defaults_to_that_of_the_bundled_model(
    make_config, monkeypatch: pytest.MonkeyPatch
):
    bundle = SimpleNamespace(image_size=(48, 80))
    monkeypatch.setattr("bc_model.inference.open_bundled_model", lambda: bundle)

    assert make_config().image_size == (224, 224)
    assert make_config("--weights", "none").image_size == (224, 224)
    assert make_config("--weights", "bundled").image_size == (48, 80)
    config = make_config("--weights", "bundled", "--image-size", "96x128")
    assert config.image_size == (96, 128)
    with pytest.raises(ConfigError, match="2 whole numbers"):
        make_config("--weights", "bundled", "--image-size", "")


def test_build_config_no_options_returns_the_defaults(make_config, tmp_path: Path):
    assert make_config() == TrainingConfig(data=str(tmp_path))


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "data"])
def test_training_options_have_the_default_range_and_help_of_the_field(name: str):
    @training_options()
    def command(**_: object) -> None: ...

    options = {param.name: param for param in click.command()(command).params}
    option, field = options[name], OPTIONS[name]
    default = option.type_cast_value(click.Context(click.Command("any")), option.default)
    assert default == field.default
    assert option.opts == [f"--{name.replace('_', '-')}"]
    assert option.help.startswith(field.help)
    if isinstance(option.type, click.IntRange | click.FloatRange):
        assert (option.type.min, option.type.min_open) == (
            (field.ge, False) if field.gt is None else (field.gt, True)
        )
        assert (option.type.max, option.type.max_open) == (
            (field.le, False) if field.lt is None else (field.lt, True)
        )
    if field.choices:
        assert tuple(option.type.choices) == field.choices


def test_training_options_leaves_out_fields():
    @click.command()
    @training_options(without=["test_fold"])
    def command(**_: object) -> None: ...

    names = {option.name for option in command.params}
    assert names == OPTIONS.keys() - {"data", "test_fold"}


def test_training_options_out_of_range_names_the_rule():
    @click.command()
    @training_options()
    def command(**_: object) -> None: ...

    result = CliRunner().invoke(command, ["--dropout", "2"])
    assert result.exit_code == 2
    assert "0<=x<1" in result.output
