"""Exact twins: pictures whose pixels are the same, by what their names share.

The manifest has acted on them already: of a pair of one class the first is kept, and their cases
are joined so that no split parts them; pairs of two classes are left out, both.
"""

import pandas as pd

from bc_model.data.manifest import Manifest
from bc_model.data.names import parse_name
from bc_model.data.near_twins import RELATIONS, NearTwins


def find_exact_twins(manifest: Manifest) -> NearTwins:
    """List the pairs of pictures with the same pixels.

    Parameters
    ----------
    manifest : Manifest

    Returns
    -------
    NearTwins
        All of them, at distance 0. `path` is the picture that was kept, or the first of those
        that were left out because they are filed as both classes.
    """
    rows = [
        (kept, path, _relation(kept, path))
        for path, kept in zip(manifest.twins["path"], manifest.twins["twin_of"], strict=True)
    ]
    # Every picture of one contradiction has the same sentence, which names the first of them.
    rejected = manifest.rejected
    for _, alike in rejected[rejected["reason"] == "contradiction"].groupby("detail"):
        first, *others = alike["path"]
        rows += [(first, other, RELATIONS[0]) for other in others]
    pairs = pd.DataFrame(rows, columns=["path", "other", "relation"], dtype="str")
    pairs.insert(2, "distance", 0)
    order = pairs["relation"].map(RELATIONS.index)
    pairs = pairs.assign(order=order).sort_values(["order", "path", "other"], ignore_index=True)
    counts = pairs["relation"].value_counts()
    return NearTwins(
        {relation: int(counts.get(relation, 0)) for relation in RELATIONS},
        pairs.drop(columns="order"),
    )


def _relation(kept: str, path: str) -> str:
    names = [parse_name(one.rpartition("/")[2]) for one in (kept, path)]
    if names[0] is None or names[1] is None:
        return "case unknown"
    return "same case" if names[0].case == names[1].case else "other case"
