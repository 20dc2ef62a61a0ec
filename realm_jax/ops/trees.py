"""Trees of parameters held side by side."""

import jax

from realm_jax.types import Params


def first_difference(found: Params, wanted: Params) -> tuple[str, str, str] | None:
    """Find the first leaf, by name, that two trees of arrays or shapes do not have alike.

    Args:
      found, wanted: nested dicts; what counts is which leaves there are, their dtypes and shapes.

    Returns:
      The leaf's name, dotted, and what it is in either tree, such as "float32[8, 4]" or "nothing"; None where
      they fit.
    """
    left, right = (
        {
            jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype}{list(leaf.shape)}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (found, wanted)
    )
    for name in sorted({*left, *right}):
        if left.get(name) != right.get(name):
            return name, left.get(name, "nothing"), right.get(name, "nothing")
    return None
