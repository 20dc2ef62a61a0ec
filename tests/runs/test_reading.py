"""Rows and candidates of the reading warm-up."""

from dataclasses import replace

import numpy as np
import pytest

from realm_jax.runs.reading import crop_to_target, evidence_first, holds_target, rows_with_evidence
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.types import Blocks, Candidates, MaskedBatch, Rows

WORDS = ["a", "b", "c", "d", "lima", "oslo", "##s"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
A, B, C, D, LIMA, OSLO, PLURAL = range(5, 12)
SEP = 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY)


def rows(lists: list[list[int]], length: int) -> Rows:
    ids = np.zeros((len(lists), length), np.int32)
    for row, values in zip(ids, lists, strict=True):
        row[: len(values)] = values
    return Rows(ids=ids, length=np.array([len(values) for values in lists], np.int32))


def batch_of(targets: list[list[int]]) -> MaskedBatch:
    padded = rows(targets, 2)
    count = len(targets)
    return MaskedBatch(
        query=rows([[2, 4, SEP]] * count, 4),
        target_positions=np.ones((count, 2), np.int32),
        target_ids=padded.ids,
        target_weights=(np.arange(2) < padded.length[:, None]).astype(np.float32),
        origin=np.full(count, -1, np.int32),
    )


def candidates_of(bodies: list[list[list[int]]], length: int = 8) -> Candidates:
    body = [rows(some, length) for some in bodies]
    shape = (len(bodies), len(bodies[0]))
    return Candidates(
        block_ids=np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape),
        blocks=Blocks(
            title=Rows(ids=np.zeros((*shape, 2), np.int32), length=np.full(shape, 2, np.int32)),
            body=Rows(ids=np.stack([b.ids for b in body]), length=np.stack([b.length for b in body])),
        ),
        is_null=np.zeros(shape, bool),
        is_valid=np.ones(shape, bool),
    )


def test_evidence_is_a_valid_body_with_the_target_as_whole_words(tokenizer: Tokenizer) -> None:
    batch = batch_of([[LIMA], [LIMA], [OSLO, A]])
    candidates = candidates_of(
        [
            [[A, LIMA, SEP], [A, LIMA, PLURAL, SEP]],  # the second goes on: "limas"
            [[B, SEP], [LIMA, SEP]],
            [[OSLO, B, A, SEP], [B, OSLO, A, SEP]],
        ]
    )
    candidates.is_valid[1, 1] = False
    found = holds_target(batch, candidates, tokenizer)
    np.testing.assert_array_equal(found, [[True, False], [False, False], [False, True]])


def test_rows_with_evidence_come_first_in_their_order() -> None:
    batch, candidates = batch_of([[A], [B], [C], [D]]), candidates_of([[[A, SEP]]] * 4)
    evidence = np.array([[False], [True], [False], [True]])
    kept, some, found = rows_with_evidence(batch, candidates, evidence, rows=3)
    np.testing.assert_array_equal(kept.target_ids[:, 0], [B, D, A])
    np.testing.assert_array_equal(some.block_ids[:, 0], [1, 3, 0])
    np.testing.assert_array_equal(found[:, 0], [True, True, False])


def test_candidates_with_evidence_come_first_in_their_order() -> None:
    candidates = candidates_of([[[A, SEP], [B, SEP], [C, SEP]]])
    kept = evidence_first(candidates, np.array([[False, False, True]]), keep=2)
    np.testing.assert_array_equal(kept.block_ids, [[2, 0]])
    np.testing.assert_array_equal(kept.blocks.body.ids[0, :, 0], [C, A])


def test_a_window_holds_the_target_and_closes_the_row(tokenizer: Tokenizer) -> None:
    body = [A, B, C, OSLO, D, A, SEP]
    batch, candidates = batch_of([[OSLO]]), candidates_of([[body]])
    windows = set()
    for seed in range(40):
        cut = crop_to_target(batch, candidates, tokenizer, width=4, rng=np.random.default_rng(seed))
        ids = cut.blocks.body.ids[0, 0].tolist()
        assert cut.blocks.body.length[0, 0] == 4 and ids[-1] == SEP
        assert any(body[i : i + 3] == ids[:3] for i in range(4)) and OSLO in ids
        windows.add(tuple(ids))
    assert len(windows) == 3  # the target first, in the middle, last but for [SEP]


def test_a_short_body_is_kept_whole(tokenizer: Tokenizer) -> None:
    batch, candidates = batch_of([[OSLO]]), candidates_of([[[A, OSLO, SEP]]])
    cut = crop_to_target(batch, candidates, tokenizer, width=6, rng=np.random.default_rng(0))
    assert cut.blocks.body.ids[0, 0].tolist() == [A, OSLO, SEP, 0, 0, 0]
    assert cut.blocks.body.length[0, 0] == 3


def test_a_body_without_the_target_is_cut_too(tokenizer: Tokenizer) -> None:
    batch, candidates = batch_of([[LIMA]]), candidates_of([[[A, B, C, D, A, SEP]]])
    cut = crop_to_target(batch, candidates, tokenizer, width=3, rng=np.random.default_rng(1))
    ids = cut.blocks.body.ids[0, 0].tolist()
    assert ids[-1] == SEP and ids[:2] in [[A, B], [B, C], [C, D], [D, A]]
    assert replace(cut, blocks=candidates.blocks).block_ids is cut.block_ids  # the rest is as it was
