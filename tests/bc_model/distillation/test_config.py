import dataclasses

from bc_model.distillation.config import Recipe


def test_every_number_is_part_of_the_key():
    recipe = Recipe()

    assert Recipe().key == recipe.key
    assert dataclasses.replace(recipe, mixed=0.2).key != recipe.key
