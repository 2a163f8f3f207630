"""What a training is told by the command line where an option is left out."""

from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from bc_model.cli.train_options import settings_from, train_options
from bc_model.errors import SettingsError
from bc_model.training.settings import TrainSettings


@pytest.fixture
def settings_of(tmp_path: Path):
    """Return a function that makes the settings of some options."""
    found: list[TrainSettings] = []

    @click.command()
    @train_options
    def read(**options: object) -> None:
        found.append(settings_from(tmp_path, options))

    def make(*asked: str) -> TrainSettings:
        CliRunner().invoke(read, asked, catch_exceptions=False, standalone_mode=False)
        return found[-1]

    return make


def test_pictures_are_as_large_as_the_first_weights_want_them_unless_asked_for(
    settings_of, monkeypatch: pytest.MonkeyPatch
):
    box = SimpleNamespace(image_size=(48, 80))
    monkeypatch.setattr("bc_model.serving.shipped.bundled_model", lambda: box)

    assert settings_of().image_size == (224, 224)
    assert settings_of("--weights", "none").image_size == (224, 224)
    assert settings_of("--weights", "bundled").image_size == (48, 80)
    asked = settings_of("--weights", "bundled", "--image-size", "96x128")
    assert asked.image_size == (96, 128)
    with pytest.raises(SettingsError, match="must be height x width"):
        settings_of("--weights", "bundled", "--image-size", "")
