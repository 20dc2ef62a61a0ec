"""From queries to candidates."""

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.index.exact import ExactIndex
from realm_jax.runs.candidates import CandidateSearch


def test_a_search_leaves_out_the_block_a_text_was_cut_from(make_config):
    corpus = Corpus.open(make_config().corpus)
    rng = np.random.default_rng(0)
    index = ExactIndex(rng.standard_normal((len(corpus), 8)).astype(np.float32))
    queries = rng.standard_normal((3, 8)).astype(np.float32)
    search = CandidateSearch(corpus, candidates=4, extra=2, null_block=True)
    nearest = index.search(queries, 6).block_ids
    origin = nearest[:, 0].copy()
    found = search(index, queries, origin)
    np.testing.assert_array_equal(found.block_ids[:, 1:], nearest[:, 1:4])
    assert found.is_valid.all() and found.is_null[:, 0].all()
