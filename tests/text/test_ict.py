"""ICT pairs."""

import numpy as np

from realm_jax.text.ict import ict_pair

BODY = np.array([11, 12, 21, 22, 23, 31, 3], np.int32)  # three sentences and [SEP]
SENTENCES = np.array([[0, 2], [2, 5], [5, 6]], np.int32)


def test_the_sentence_is_cut_out_and_nothing_else():
    seen = set()
    for seed in range(50):
        query, body = ict_pair(BODY, SENTENCES, np.random.default_rng(seed), keep_probability=0.0)
        assert sorted([*query.tolist(), *body.tolist()]) == sorted(BODY.tolist())
        assert body[-1] == 3 and query.dtype == body.dtype == np.int32
        seen.add(tuple(query.tolist()))
    assert seen == {(11, 12), (21, 22, 23), (31,)}


def test_the_sentence_is_kept_as_often_as_asked():
    kept = 0
    for seed in range(1000):
        _, body = ict_pair(BODY, SENTENCES, np.random.default_rng(seed), keep_probability=0.1)
        kept += len(body) == len(BODY)
    # Binomial(1000, 0.1): standard deviation 9.5; five of them.
    assert abs(kept - 100) < 48
    _, body = ict_pair(BODY, SENTENCES, np.random.default_rng(0), keep_probability=1.0)
    assert np.array_equal(body, BODY)
