"""Fine-tuning on questions: what moves, what stays, and that it resumes bit for bit."""

import dataclasses

import numpy as np
import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.index.store import versions
from realm_jax.runs.live_index import load_version
from realm_jax.runs.qa import run_qa
from realm_jax.runs.realm import run_realm
from realm_jax.train.checkpoint import Checkpoints
from tests.runs.compare import assert_same_end, logged, same
from tests.tiny_run import questions, write_jsonl


@pytest.fixture(scope="module")
def config(make_config, prepared):
    asked = write_jsonl(prepared / "questions.jsonl", questions())
    made = make_config()
    qa = dataclasses.replace(made.qa, log_every=1)
    return dataclasses.replace(made, train_questions=str(asked), qa=qa)


@pytest.fixture(scope="module")
def start(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "realm"
    run_realm(config, workdir, stop_at=0)
    return workdir


def test_resumed_it_ends_the_same_and_reader_and_query_embedder_alone_have_moved(config, start, tmp_path):
    run_qa(config, tmp_path / "whole", start_from=start)
    for stop_at in (2, None):
        run_qa(config, tmp_path / "parts", start_from=start, stop_at=stop_at)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    assert logged(tmp_path / "parts", "loss") == logged(tmp_path / "whole", "loss")

    before, after = (Checkpoints(folder).restore_params() for folder in (start, tmp_path / "whole"))
    assert set(after) == {"query_embedder", "block_embedder", "encoder", "reader"}
    assert same(after["block_embedder"], before["embedder"])  # the index stays that of these parameters
    assert same(after["encoder"], before["encoder"])
    assert not same(after["query_embedder"], before["embedder"])
    assert not same(after["reader"]["bert"], before["encoder"]["bert"])


def test_the_reader_starts_from_the_encoder_and_the_index_from_the_block_embedder(config, start, tmp_path):
    run_qa(config, tmp_path / "qa", start_from=start, stop_at=0)
    params, before = Checkpoints(tmp_path / "qa").restore_params(), Checkpoints(start).restore_params()
    assert same(params["reader"]["bert"], before["encoder"]["bert"])
    corpus = Corpus.open(config.corpus)
    assert versions(tmp_path / "qa" / "index") == [0]
    ours, theirs = (load_version(folder / "index", 0, corpus=corpus) for folder in (tmp_path / "qa", start))
    np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)


def test_a_reader_that_was_fine_tuned_is_kept(config, start, tmp_path):
    run_qa(config, tmp_path / "first", start_from=start, stop_at=2)
    run_qa(config, tmp_path / "second", start_from=tmp_path / "first", stop_at=0)
    first, second = (Checkpoints(tmp_path / name).restore_params() for name in ("first", "second"))
    assert same(first, second)
