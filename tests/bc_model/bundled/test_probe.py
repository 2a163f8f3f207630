from bc_model.bundled.learner import build_network
from bc_model.bundled.probe import build_probe
from tests.bc_model.bundled.conftest import QUICK


def test_the_small_network_has_the_names_and_outputs_of_the_great_one():
    small = build_probe(QUICK, None)
    great = build_network(QUICK, None)

    assert small.output_shape == great.output_shape == (None, 2)
    for name in ("pool", "dense_1", "logits", "probabilities"):
        assert small.get_layer(name).output.shape[1:] in (
            great.get_layer(name).output.shape[1:],
            (512,),  # the pooled width, by hand: 16 * 8 * 4
        )


def test_it_halves_a_picture_five_times_as_resnet50_does():
    small = build_probe(QUICK, (64, 96))

    assert small.get_layer("pool").input.shape == (None, 2, 3, 512)
    # Nine blocks of three convolutions, four shortcuts and the stem.
    assert sum("conv" in layer.name for layer in small.layers) == 9 * 3 + 4 + 1
