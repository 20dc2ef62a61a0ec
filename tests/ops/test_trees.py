"""Trees of arrays: where two of them differ first."""

import jax
import numpy as np
import pytest

from realm_jax.ops.trees import first_difference

TREE = {"b": {"kernel": np.zeros((2, 3), np.float32)}, "a": np.zeros(4, np.int32)}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (TREE, None),
        (jax.eval_shape(lambda: TREE), None),
        (
            {**TREE, "b": {"kernel": np.zeros((3, 2), np.float32)}},
            ("b.kernel", "float32[3, 2]", "float32[2, 3]"),
        ),
        ({**TREE, "a": np.zeros(4, np.float32)}, ("a", "float32[4]", "int32[4]")),
        ({"b": TREE["b"]}, ("a", "nothing", "int32[4]")),
        ({**TREE, "c": np.zeros((), np.float32)}, ("c", "float32[]", "nothing")),
        ({}, ("a", "nothing", "int32[4]")),
    ],
)
def test_the_first_difference_by_name(found, expected):
    assert first_difference(found, TREE) == expected
