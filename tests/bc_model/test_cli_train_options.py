"""What a training is told by the command line where an option is left out."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bc_model.cli.train_options import settings_from, train_options
from bc_model.serving.shipped import bundled_model
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


def test_pictures_are_as_large_as_the_first_weights_want_them_unless_asked_for(settings_of):
    assert settings_of().image_size == (224, 224)
    assert settings_of("--weights", "none").image_size == (224, 224)
    assert settings_of("--weights", "bundled").image_size == bundled_model().image_size
    asked = settings_of("--weights", "bundled", "--image-size", "96x128")
    assert asked.image_size == (96, 128)
