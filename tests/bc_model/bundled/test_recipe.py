import dataclasses

import pytest

from bc_model.bundled.recipe import Recipe


def test_stages_follow_each_other():
    recipe = Recipe(stages=((80, 2), (128, 1)))

    assert recipe.steps == 3
    assert [recipe.side_px(step) for step in range(3)] == [80, 80, 128]
    with pytest.raises(IndexError):
        recipe.side_px(3)


def test_every_number_is_part_of_the_key():
    recipe = Recipe()

    assert Recipe().key == recipe.key
    assert dataclasses.replace(recipe, mixup=0.2).key != recipe.key
