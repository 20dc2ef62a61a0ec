"""Fixed shapes."""

import numpy as np
import pytest

from realm_jax.errors import ConfigError
from realm_jax.text.packing import framed, null_blocks, pack_rows, pack_texts


def test_rows_are_padded_with_zero():
    rows = pack_rows([np.array([7, 8]), np.array([], np.int64), np.array([9, 9, 9])], length=3)
    assert rows.ids.tolist() == [[7, 8, 0], [0, 0, 0], [9, 9, 9]] and rows.length.tolist() == [2, 0, 3]
    assert rows.ids.dtype == rows.length.dtype == np.int32
    assert pack_rows([], length=4).ids.shape == (0, 4)


def test_rows_that_are_too_long_are_refused():
    with pytest.raises(ConfigError, match="at most 2"):
        pack_rows([np.arange(3)], length=2)


def test_a_frame_keeps_the_end_mark():
    assert framed(np.arange(10, 13), length=8, cls_id=2, sep_id=3).tolist() == [2, 10, 11, 12, 3]
    assert framed(np.arange(10, 19), length=4, cls_id=2, sep_id=3).tolist() == [2, 10, 11, 3]


def test_null_blocks_are_special_tokens_only():
    blocks = null_blocks((2, 1), title_length=4, body_length=3, cls_id=2, sep_id=3)
    assert blocks.title.ids.tolist() == [[[2, 3, 0, 0]], [[2, 3, 0, 0]]]
    assert blocks.body.ids.tolist() == [[[3, 0, 0]], [[3, 0, 0]]]
    assert blocks.title.length.tolist() == [[2], [2]] and blocks.body.length.tolist() == [[1], [1]]


def test_texts_are_framed_cut_and_may_hold_masks(tokenizer):
    rows = pack_texts(["the capital of france", "the [MASK]", ""], tokenizer, length=5)
    cls_id, sep_id = tokenizer.cls_id, tokenizer.sep_id
    words = tokenizer.encode("the capital of").ids.tolist()
    assert rows.ids.tolist() == [
        [cls_id, *words, sep_id],
        [cls_id, words[0], tokenizer.mask_id, sep_id, 0],
        [cls_id, sep_id, 0, 0, 0],
    ]
    assert rows.length.tolist() == [5, 4, 2] and rows.ids.dtype == np.int32
