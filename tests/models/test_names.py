"""The table of name rules: complete, one to one, and undone by its inverse."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from realm_jax.models.layout import EMBEDDER, ENCODER, READER
from realm_jax.models.names import UNREAD, Rule, modern, rules
from realm_jax.models.pretrained import imported_models
from tests.models.small import small_config


@pytest.mark.parametrize(
    ("part", "groups"), [("embedder", EMBEDDER), ("encoder", ENCODER), ("reader", READER)]
)
def test_rules_cover_every_leaf_once(part: str, groups: tuple[str, ...]) -> None:
    shapes = jax.eval_shape(imported_models(small_config()).init, jax.random.key(0))
    listed = [rule for group in groups for rule in rules(group, base="realm.", num_layers=2)]
    paths = [path for rule in listed for path in rule.paths]
    assert sorted(paths) == sorted(flatten_dict(shapes[part]))
    assert len({rule.name for rule in listed}) == len(listed)


def test_a_kernel_is_turned() -> None:
    rule = Rule("dense.weight", (("kernel",),), transpose=True)
    tensor = np.arange(6.0).reshape(2, 3)
    assert rule.leaves(tensor)[("kernel",)].shape == (3, 2)
    np.testing.assert_array_equal(rule.tensor(rule.leaves(tensor).__getitem__), tensor)
    assert rule.shape(lambda path: (3, 2)) == (2, 3)


def test_start_comes_before_end_in_the_readers_kernel() -> None:
    (rule,) = (r for r in rules("spans", base="", num_layers=0) if r.name.endswith("intermediate.weight"))
    tensor = np.arange(12.0).reshape(4, 3)  # [out, in]: two rows of start features, two of end features
    leaves = rule.leaves(tensor)
    np.testing.assert_array_equal(leaves[("start", "kernel")], tensor[:2].T)
    np.testing.assert_array_equal(leaves[("end", "kernel")], tensor[2:].T)
    np.testing.assert_array_equal(rule.tensor(leaves.__getitem__), tensor)
    assert rule.shape(lambda path: (3, 2)) == (4, 3)


def test_old_spellings() -> None:
    assert modern("bert.x.LayerNorm.gamma") == "bert.x.LayerNorm.weight"
    assert modern("bert.x.LayerNorm.beta") == "bert.x.LayerNorm.bias"
    assert (
        modern("reader.qa_outputs.layer_normalization.beta") == "reader.qa_outputs.layer_normalization.bias"
    )
    assert modern("bert.x.beta") == "bert.x.beta"


def test_unread_names_are_few() -> None:
    for name in ("block_emb", "bert.pooler.dense.bias", "embeddings.position_ids", "classifier.weight"):
        assert UNREAD.fullmatch(name)
    for name in (
        "block_emb2",
        "encoder.layer.0.output.dense.bias",
        "cls.predictions.other",
        "cls.dense.weight",
    ):
        assert not UNREAD.fullmatch(name)
