"""Fine-tuning on questions: what moves, what stays, and that it resumes bit for bit."""

import dataclasses
import shutil

import numpy as np
import pytest

import realm_jax.runs.qa as module
from realm_jax.config import RefreshConfig
from realm_jax.data.corpus import Corpus
from realm_jax.errors import CorpusError
from realm_jax.index.store import versions
from realm_jax.inspect.loaded import find_version, open_run
from realm_jax.refresh.workers import InlineWorker
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
def quick(config):
    """Without dropout: compiled sooner."""
    bert = dataclasses.replace(config.model.bert, dropout=0.0)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, bert=bert))


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


def test_inputs_made_on_a_thread_are_those_made_inline(config, start, tmp_path, monkeypatch):
    run_qa(config, tmp_path / "thread", start_from=start)
    monkeypatch.setattr(module, "inputs_worker", lambda *, ahead: InlineWorker())
    run_qa(config, tmp_path / "inline", start_from=start)
    assert_same_end(tmp_path / "inline", tmp_path / "thread")


def test_end_to_end_on_expressions_it_refreshes_and_resumes_bit_for_bit(quick, start, prepared, tmp_path):
    """A snapshot is taken at step 2 and adopted at step 3, where the run is stopped; 8 blocks are judged."""
    rows = [{**row, "answers": [row["answers"][0][:3] + r"\w+"], "is_regex": True} for row in questions()]
    config = dataclasses.replace(
        quick,
        train_questions=str(write_jsonl(prepared / "expressions.jsonl", rows)),
        qa=dataclasses.replace(quick.qa, loss="orqa", beam=8, end_to_end=True),
        refresh=RefreshConfig(every=2, adoption="at_lag", lag=1, worker="thread", probes=4),
    )
    run_qa(config, tmp_path / "whole", start_from=start)
    for stop_at in (3, None):
        run_qa(config, tmp_path / "parts", start_from=start, stop_at=stop_at)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    for name in ("loss", "retriever_loss", "staleness_steps"):
        assert logged(tmp_path / "parts", name) == logged(tmp_path / "whole", name), name
    assert list(logged(tmp_path / "whole", "index_version").values()) == [0, 0, 2, 2]
    # An answer is in more beams of 8 than can be read among 3 blocks.
    retrieved, read = (sum(logged(tmp_path / "whole", name).values()) for name in ("retrieved", "answerable"))
    assert retrieved > read > 0
    before, after = (Checkpoints(folder).restore_params() for folder in (start, tmp_path / "whole"))
    assert not same(after["query_embedder"], before["embedder"])
    assert not same(after["block_embedder"], before["embedder"])
    assert same(after["encoder"], before["encoder"])
    # The index in use is that of step 2, older than the parameters; that of step 4 was in flight at the end.
    shutil.rmtree(tmp_path / "whole" / "index" / "v00000004", ignore_errors=True)
    assert find_version(open_run(tmp_path / "whole"))[1] == 2
    assert find_version(open_run(tmp_path / "whole", fresh_index=True))[1] is None


@pytest.mark.parametrize(("strings", "swaps", "got"), [(1, 0.0, "both"), (0, 0.5, "swap_probability 0.5")])
def test_answers_are_of_one_kind_which_is_said_before_blocks_are_embedded(
    quick, start, tmp_path, strings, swaps, got
):
    rows = [{**row, "is_regex": i >= strings} for i, row in enumerate(questions())]
    asked = write_jsonl(tmp_path / "asked.jsonl", rows)
    qa = dataclasses.replace(quick.qa, swap_probability=swaps)
    with pytest.raises(CorpusError, match=f"all strings.*got .*{got}"):
        run_qa(
            dataclasses.replace(quick, train_questions=str(asked), qa=qa), tmp_path / "run", start_from=start
        )
    assert not (tmp_path / "run").exists()


def test_on_blocks_of_bm25_the_reader_alone_is_trained_and_nothing_is_embedded(quick, start, tmp_path):
    config = dataclasses.replace(quick, qa=dataclasses.replace(quick.qa, retriever="bm25"))
    run_qa(config, tmp_path / "qa", start_from=start, stop_at=2)
    before, after = (Checkpoints(folder).restore_params() for folder in (start, tmp_path / "qa"))
    for tower in ("query_embedder", "block_embedder"):
        assert same(after[tower], before["embedder"])
    assert not same(after["reader"]["bert"], before["encoder"]["bert"])
    assert not (tmp_path / "qa" / "index").exists()
    assert set(logged(tmp_path / "qa", "retrieved").values()) == {1.0}  # countries are named in questions


def test_evidence_rewritten_at_every_step_is_the_same_after_resuming(quick, start, tmp_path):
    qa = dataclasses.replace(
        quick.qa,
        loss="orqa",
        candidates=1,
        beam=6,
        positives_first=True,
        whole_words=True,
        swap_probability=0.9,
        drop_sentences=0.5,
        strange_sentences=2,
    )
    config = dataclasses.replace(quick, qa=qa)
    run_qa(config, tmp_path / "whole", start_from=start)
    for stop_at in (2, None):
        run_qa(config, tmp_path / "parts", start_from=start, stop_at=stop_at)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    # Six of twelve blocks hold the answer nearly always; one of them is read then.
    answerable, retrieved = (logged(tmp_path / "whole", name) for name in ("answerable", "retrieved"))
    assert answerable == retrieved and max(answerable.values()) > 0
