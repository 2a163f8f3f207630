"""Cut a classifier in two, so that the part that does not train is computed once and kept.

Both halves are made of the model's own layers: what trains the tail trains the model, and nothing
has to be copied back. The base is for inference only: call it with `training=False`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bc_model.errors import SettingsError
from bc_model.model import backbone_layers, last_conv_output

if TYPE_CHECKING:
    import keras


def cut_at_pool(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cut behind global average pooling.

    Returns
    -------
    base : keras.Model
        Picture (n, height, width, 3) to pooled features (n, channels).
    tail : keras.Model
        Pooled features to probabilities (n, 2).

    Raises
    ------
    ModelError
        The model has no layer named 'pool'.
    """
    last_conv_output(model)  # says in one sentence when 'pool' is not there
    return _halves(model, model.get_layer("pool").output, "pool")


def cut_before(model: keras.Model, from_block: str) -> tuple[keras.Model, keras.Model] | None:
    """Cut where fine-tuning starts; the tail contains all that `unfreeze_from` trains.

    Parameters
    ----------
    model : keras.Model
    from_block : str
        A prefix of layer names such as 'conv5' or 'conv4_block6', or 'all'.

    Returns
    -------
    (base, tail) or None
        `base` takes pictures to the one tensor that enters the tail, `tail` goes on from there to
        the probabilities. None when there is no such place: everything trains, or more than one
        tensor crosses, as inside a residual block.

    Raises
    ------
    SettingsError
        No layer of the backbone begins with `from_block`.
    """
    if from_block == "all":
        return None
    layers = backbone_layers(model)
    starts = [i for i, layer in enumerate(layers) if layer.name.startswith(from_block)]
    if not starts:
        raise SettingsError(
            f"No layer of {model.name} begins with '{from_block}'; name one of its blocks."
        )
    crossing = _crossing(model, {id(layer) for layer in model.layers[starts[0] :]})
    if len(crossing) != 1 or crossing[0][0] is model.inputs[0]:
        return None
    return _halves(model, *crossing[0])


def from_there_to_pool(model: keras.Model, base: keras.Model) -> keras.Model:
    """Return the part between the end of a base, from `cut_before`, and the pooled features."""
    import keras

    pooled = model.get_layer("pool").output
    return keras.Model(base.outputs[0], pooled, name=f"{base.name}_on_to_pool")


def _crossing(model: keras.Model, tail_ids: set[int]) -> list[tuple[Any, str]]:
    """Return the tensors that enter the tail, each with the name of the operation it comes from.

    A place in the list of layers says too little: a shortcut may leap over it, and operations that
    are not layers, such as a subtraction, are not in that list. So every arrow is looked at.
    """
    from keras import tree

    makers = {id(tensor): op for op in model.operations for tensor in tree.flatten(op.output)}
    inside = set(tail_ids)
    found: dict[int, tuple[Any, str]] = {}
    for operation in model.operations:  # in topological order: makers come before their users
        if _is_input(operation):
            continue
        tensors = tree.flatten(operation.input)
        if any(id(makers[id(tensor)]) in inside for tensor in tensors):
            inside.add(id(operation))
        if id(operation) in inside:
            for tensor in tensors:
                maker = makers[id(tensor)]
                if id(maker) not in inside:
                    found[id(tensor)] = (tensor, maker.name)
    return list(found.values())


def _is_input(operation: Any) -> bool:
    import keras

    return isinstance(operation, keras.layers.InputLayer)


def _halves(model: keras.Model, tensor: Any, place: str) -> tuple[keras.Model, keras.Model]:
    import keras

    base = keras.Model(model.inputs[0], tensor, name=f"{model.name}_to_{place}")
    tail = keras.Model(tensor, model.outputs[0], name=f"{model.name}_from_{place}")
    return base, tail
