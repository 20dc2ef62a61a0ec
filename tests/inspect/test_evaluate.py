"""Evaluation of a run: numbers against the predictions they come from, and the files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Question, Questions
from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.evaluate.answers import is_correct
from realm_jax.index.exact import ExactIndex
from realm_jax.inspect.answer import Answer, answer_questions
from realm_jax.inspect.evaluate import evaluate_run, write_evaluation
from realm_jax.inspect.loaded import LoadedRun, open_run
from realm_jax.inspect.tables import evaluation_table
from realm_jax.inspect.utility import masked_utility
from realm_jax.runs.live_index import IndexVersion
from realm_jax.text.answers import exact_match, has_answer_words, words
from realm_jax.text.regex import RegexMatcher


@pytest.fixture(scope="module")
def questions(tiny_runs) -> Questions:
    return Questions.load(tiny_runs.questions)


def test_exact_match_recall_and_upper_bound_follow_from_the_predictions(qa: LoadedRun, questions):
    evaluation = evaluate_run(qa, questions, retriever="bm25", ks=(1, 3))
    answers = answer_questions(qa, [q.question for q in questions], retriever="bm25")
    metrics = evaluation.to_json()["metrics"]
    with RegexMatcher() as matcher:
        right = [is_correct(a.text, q, matcher=matcher) for a, q in zip(answers, questions, strict=True)]
    assert metrics["exact_match"]["mean"] == pytest.approx(np.mean(right))
    assert metrics["exact_match"]["count"] == len(questions)
    first = [stands_in(a.evidence[0].text, q) for a, q in zip(answers, questions, strict=True)]
    assert metrics["recall@1"]["mean"] == pytest.approx(np.mean(first))
    closed = evaluate_run(qa, questions, retriever="null", ks=(1,))
    bound = [any_span_is_right(qa, a, q) for a, q in zip(answers, questions, strict=True)]
    assert metrics["reader_upper_bound"]["mean"] == pytest.approx(np.mean(bound))
    assert [row["readable"] for row in evaluation.predictions] == bound
    assert [row["readable"] for row in closed.predictions] == [False] * len(questions)
    assert metrics["gold_recall@1"]["mean"] == 1.0, "each question names the country of its document"
    assert [row["prediction"] for row in evaluation.predictions] == [a.text for a in answers]
    assert [row["correct"] for row in evaluation.predictions] == right


def stands_in(text: str, question: Question) -> bool:
    return has_answer_words(words(text), map(words, question.answers))


def any_span_is_right(run: LoadedRun, answer: Answer, question: Question) -> bool:
    """Try all spans of all blocks that were read, as wide as the reader's."""
    return any(
        exact_match(run.corpus.answer_texts([(one.block_id, i, j)])[0], question.answers)
        for one in answer.evidence
        if stands_in(one.text, question)
        for i in range(len(run.corpus.body(one.block_id)) - 1)
        for j in range(i, min(i + run.models.reader.max_span_width, len(run.corpus.body(one.block_id)) - 1))
    )


def test_the_size_of_the_batch_changes_nothing(tiny_runs, questions):
    """Twelve questions, one by one and five at once.

    The index is a random one: in that of an untrained model all blocks are alike, and rounding orders them.
    """
    embeddings = np.random.default_rng(0).standard_normal((12, 16)).astype(np.float32)
    runs = [open_run(tiny_runs.qa, batch_size=size) for size in (1, 5)]
    for run in runs:
        vars(run)["version"] = IndexVersion(0, ExactIndex(embeddings), embeddings)
    one, other = (evaluate_run(run, questions, ks=(1, 5)) for run in runs)
    assert one.to_json()["metrics"] == other.to_json()["metrics"]
    close = ("probability", "scores", "retrieval_probabilities", "span_probabilities")
    for row, wanted in zip(one.predictions, other.predictions, strict=True):
        assert {k: v for k, v in row.items() if k not in close} == {
            k: v for k, v in wanted.items() if k not in close
        }
        for name in close:
            assert row[name] == pytest.approx(wanted[name], rel=1e-4)


def test_a_run_is_evaluated_with_the_retriever_it_was_fine_tuned_with(qa: LoadedRun, questions):
    lexical = replace(qa, config=replace(qa.config, qa=replace(qa.config.qa, retriever="bm25")))
    for run, name in ((qa, "model"), (lexical, "bm25")):
        assert evaluate_run(run, questions, ks=(1,), read=False).facts["retriever"] == name
    found = answer_questions(lexical, ["Tokyo"])[0]
    assert [one.title for one in found.evidence] == ["Japan"], "no other block shares a word"


def test_sources_are_told_apart(qa: LoadedRun, questions):
    by_source = evaluate_run(qa, questions, retriever="bm25", ks=(1,), read=False).to_json()["by_source"]
    counts = {row: cells["recall@1"]["count"] for row, cells in by_source.items()}
    assert counts == {"nq_dev": 8, "squad_dev": 4}


def test_a_run_without_reader_is_evaluated_for_recall_alone(realm: LoadedRun, questions):
    evaluation = evaluate_run(realm, questions, ks=(1, 12))
    metrics = evaluation.to_json()["metrics"]
    assert set(metrics) == {"recall@1", "recall@12", "gold_recall@1", "gold_recall@12"}
    assert metrics["recall@12"]["mean"] == 1.0, "all blocks are among the first 12"
    assert evaluation.facts["index_version"] == realm.version.version
    assert evaluation.facts["index_staleness_steps"] == realm.step - realm.version.version
    with pytest.raises(CheckpointError, match="fine-tuned"):
        evaluate_run(realm, questions, read=True)


def test_closed_book_answers_nothing_and_has_no_recall(qa: LoadedRun, questions):
    metrics = evaluate_run(qa, questions, retriever="null").to_json()["metrics"]
    assert metrics["exact_match"]["mean"] == 0.0
    assert set(metrics) == {"exact_match", "reader_upper_bound"}


def test_files_hold_everything(qa: LoadedRun, questions, tmp_path):
    evaluation = evaluate_run(qa, questions, retriever="bm25", ks=(1,), utility_batches=1)
    write_evaluation(evaluation, tmp_path / "new" / "folder")
    saved = json.loads((tmp_path / "new" / "folder" / "evaluation.json").read_text())
    assert saved == json.loads(json.dumps(evaluation.to_json()))
    assert {"run", "phase", "step", "seed", "corpus_hash", "retriever", "questions", "masker"} <= set(saved)
    lines = (tmp_path / "new" / "folder" / "predictions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == [q.id for q in questions]
    for row in rows:
        assert len(row["block_ids"]) == len(row["scores"]) == len(row["spans"])
        assert sum(row["retrieval_probabilities"]) == pytest.approx(1, rel=1e-5)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(evaluation_table(evaluation))
    shown = capture.get()
    assert "reader_upper_bound" in shown and "gold_recall@1" in shown and "retrieval_utility" in shown
    assert "nq_dev" in shown


def test_utility_is_the_same_every_time_and_agrees_with_its_parts(realm: LoadedRun):
    text = realm.corpus
    found = masked_utility(realm, text, batches=3)
    assert found["retrieval_utility"].count == 3 * realm.batch_size
    assert found["log_likelihood"].mean - found["null_log_likelihood"].mean == pytest.approx(
        found["retrieval_utility"].mean, abs=1e-4
    )
    assert found["best_block_utility"].mean >= -1e-6, "the null block itself is worth 0"
    assert found == masked_utility(realm, text, batches=3)
    assert found != masked_utility(realm, text, batches=3, seed=1)


def test_what_cannot_be_evaluated_is_refused(qa: LoadedRun, questions, tiny_runs):
    with pytest.raises(ConfigError, match="questions or batches"):
        evaluate_run(qa, None)
    with pytest.raises(ConfigError, match="at least 1"):
        evaluate_run(qa, questions, ks=(0, 5))
    with pytest.raises(ConfigError, match="at least 1"):
        evaluate_run(qa, questions, ks=())
    with pytest.raises(ConfigError, match="at least 1 batch"):
        masked_utility(qa, Corpus.open(tiny_runs.corpus), batches=0)
