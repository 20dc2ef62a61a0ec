"""Evaluate a run on a question set: exact match, recall, upper bound of the reader, retrieval utility."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.config import RetrieverName
from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Question, Questions
from realm_jax.errors import ConfigError
from realm_jax.evaluate.answers import (
    NOT_FOUND,
    answer_ranks,
    gold_ranks,
    is_correct,
    is_readable,
    recall_at,
)
from realm_jax.evaluate.tally import Tally, table_json, tally_by_source
from realm_jax.inspect.answer import Answer, answer_questions, require_reader
from realm_jax.inspect.fill import require_encoder
from realm_jax.inspect.loaded import LoadedRun
from realm_jax.inspect.retrieve import search, text_rows
from realm_jax.inspect.utility import masked_utility
from realm_jax.progress import reporter, to_stderr
from realm_jax.text.regex import RegexMatcher
from realm_jax.types import Search

KS = (1, 5, 10, 20, 50, 100)
EVALUATION_FILE, PREDICTIONS_FILE = "evaluation.json", "predictions.jsonl"
SEARCHED_AT_ONCE = 512  # questions between two lines of progress
CACHED_BLOCKS = 20_000  # tokenised again for their offsets


@dataclass(frozen=True)
class Evaluation:
    """What came out."""

    table: Mapping[str, Mapping[str, Tally]]  # row (all, or a source) -> metric -> tally
    utility: Mapping[str, Tally]  # over masked sentences; empty if not asked for
    facts: Mapping[str, Any]  # what was evaluated, and how, in JSON types
    predictions: Sequence[Mapping[str, Any]]  # one a question, in JSON types

    def to_json(self) -> dict[str, Any]:
        """Return everything but the predictions in JSON types."""
        rows = table_json(self.table)
        return {
            **self.facts,
            "metrics": rows["all"] if rows else {},
            "by_source": {row: cells for row, cells in rows.items() if row != "all"},
            "utility": {name: value.to_json() for name, value in self.utility.items()},
        }


def evaluate_run(
    run: LoadedRun,
    questions: Questions | None,
    *,
    retriever: RetrieverName | None = None,
    ks: Sequence[int] = KS,
    read: bool | None = None,
    candidates: int | None = None,
    utility_batches: int = 0,
    masked_text: Corpus | None = None,
    masker: str = "salient",
) -> Evaluation:
    """Evaluate a run.

    Args:
      run: the run.
      questions: the set; None measures retrieval utility alone.
      retriever: `model`, `bm25`, or `null` (closed book: the null block alone); None takes the one
        the run was fine-tuned with.
      ks: for recall@k, by answer string in the body, and by gold block where the set names any.
      read: answer the questions too; None does so if the run was fine-tuned.
      candidates: blocks read; None reads as many as in training.
      utility_batches: batches of masked sentences for retrieval utility; 0 leaves it out.
      masked_text: where these come from; None takes the text the run was pre-trained on.
      masker: how they are masked.

    Raises:
      ConfigError: nothing to evaluate, a k below 1, or no candidates.
      CheckpointError: asked to read with an untrained reader, or to fill masks with an untrained encoder.
    """
    if utility_batches < 0:
        raise ConfigError(
            "utility_batches is at least 0", got=utility_batches, remedy="0 leaves utility out."
        )
    if questions is None and not utility_batches:
        raise ConfigError(
            "an evaluation needs questions or batches of masked sentences",
            got="neither",
            remedy="Name a question set with --questions, or give --utility-batches 50.",
        )
    if not ks or min(ks) < 1:
        raise ConfigError("recall@k takes k of at least 1", got=list(ks), remedy="Such as 1 5 20 100.")
    if candidates is not None and candidates < 1:
        raise ConfigError("at least 1 block is read", got=candidates, remedy="5 is usual.")
    reads = run.phase == "qa" if read is None else read
    if reads:
        require_reader(run)
    if utility_batches:
        require_encoder(run)
    retriever = retriever or run.own_retriever
    facts = _facts(run) | {"retriever": retriever}
    table: Mapping[str, Mapping[str, Tally]] = {}
    predictions: Sequence[Mapping[str, Any]] = ()
    started = time.monotonic()
    if questions is not None:
        with RegexMatcher() as matcher:
            table, predictions = _questions(
                run,
                questions,
                retriever=retriever,
                ks=ks,
                reads=reads,
                candidates=candidates,
                matcher=matcher,
            )
            facts |= {"patterns_given_up": matcher.timeouts}
        facts |= {
            "questions": len(questions),
            "questions_left_out": questions.bad_counts,
            "seconds": time.monotonic() - started,
        }
        if reads:
            facts["candidates_read"] = candidates or run.config.qa.candidates
    utility: Mapping[str, Tally] = {}
    if utility_batches:
        text = masked_text or (Corpus.open(run.config.text) if run.config.text else run.corpus)
        utility = masked_utility(run, text, batches=utility_batches, masker=masker)
        facts |= {"masked_text": str(text.path), "masker": masker, "masked_retriever": "model"}
    if "version" in vars(run):
        facts["index_version"] = run.version.version
        facts["index_staleness_steps"] = 0 if run.blocks_stay else run.step - run.version.version
    return Evaluation(table, utility, facts, predictions)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `evaluation.json` and, where questions were asked, `predictions.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EVALUATION_FILE).write_text(
        json.dumps(evaluation.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    if evaluation.predictions:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in evaluation.predictions)
        (folder / PREDICTIONS_FILE).write_text("".join(lines), encoding="utf-8")


def _facts(run: LoadedRun) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "name": run.config.name,
        "phase": run.phase,
        "step": run.step,
        "seed": run.config.seed,
        "corpus": str(run.corpus.path),
        "corpus_hash": run.corpus.content_hash,
        "blocks": len(run.corpus),
    }


def _questions(
    run: LoadedRun,
    questions: Sequence[Question],
    *,
    retriever: RetrieverName,
    ks: Sequence[int],
    reads: bool,
    candidates: int | None,
    matcher: RegexMatcher,
) -> tuple[dict[str, dict[str, Tally]], list[dict[str, Any]]]:
    """Search, read and judge; returns the table and a record for each question."""
    read_count = (candidates or run.config.qa.candidates) if reads else 0
    found = _search_all(
        run,
        [question.question for question in questions],
        retriever=retriever,
        k=max(*ks, read_count + run.config.index.extra),
    )
    columns: dict[str, np.ndarray] = {}
    answers = _read_all(run, questions, found, count=read_count, retriever=retriever) if reads else []
    right = [is_correct(a.text, q, matcher=matcher) for a, q in zip(answers, questions, strict=False)]
    ranks = answer_ranks(run.corpus, found.block_ids[:, : max(ks)], questions, matcher=matcher)
    golds = gold_ranks(run.corpus, found.block_ids[:, : max(ks)], questions)
    readable = _readable(run, answers, questions, matcher)
    if reads:
        columns["exact_match"] = np.array(right, np.float64)
        columns["reader_upper_bound"] = np.array(readable, np.float64)
    if retriever != "null":
        has_gold = np.array([bool(question.gold_passage_ids) for question in questions])
        columns |= {f"recall@{k}": recall_at(ranks, k) for k in ks}
        columns |= {f"gold_recall@{k}": np.where(has_gold, recall_at(golds, k), np.nan) for k in ks}
        if has_gold.any() and (golds == NOT_FOUND).all():
            to_stderr(
                "note: no gold passage was found; gold_passage_ids are the ids of the corpus' documents"
            )
    table = tally_by_source(columns, [question.source for question in questions])
    shown = max(min(ks), 5)
    records = []
    for n, question in enumerate(questions):
        record: dict[str, Any] = {
            "id": question.id,
            "question": question.question,
            "answers": list(question.answers),
            "source": question.source,
            "answer_rank": int(ranks[n]) if ranks[n] != NOT_FOUND else None,
            "gold_rank": int(golds[n]) if golds[n] != NOT_FOUND else None,
        }
        if reads:
            record |= _prediction(answers[n]) | {"correct": right[n], "readable": readable[n]}
        else:
            ids = [block_id for block_id in found.block_ids[n, :shown].tolist() if block_id >= 0]
            scores = found.scores[n, : len(ids)].astype(float).tolist()
            record |= {"block_ids": ids, "scores": scores}
        records.append(record)
    return table, records


def _prediction(answer: Answer) -> dict[str, Any]:
    return {
        "prediction": answer.text,
        "probability": answer.probability,
        "block_id": answer.block_id,
        "span": answer.span,
        "block_ids": [one.block_id for one in answer.evidence],
        "scores": [one.score for one in answer.evidence],
        "retrieval_probabilities": [one.retrieval_probability for one in answer.evidence],
        "spans": [one.span for one in answer.evidence],
        "span_answers": [one.answer for one in answer.evidence],
        "span_probabilities": [one.answer_probability for one in answer.evidence],
    }


def _readable(
    run: LoadedRun, answers: Sequence[Answer], questions: Sequence[Question], matcher: RegexMatcher
) -> list[bool]:
    """Say of each question whether some span of the blocks that were read would have been right."""
    if not answers:
        return []
    lengths = text_rows(run, [answer.question for answer in answers]).length
    encode = lru_cache(CACHED_BLOCKS)(partial(run.corpus.tokenizer.encode, special_tokens=False))
    width = run.models.reader.max_span_width

    def readable(answer: Answer, question: Question, length: int) -> bool:
        seen = run.config.shapes.joint_length - length - 1  # body tokens behind the question, before [SEP]
        return any(
            is_readable(one.text, encode(one.text).offsets[:seen], question, max_width=width, matcher=matcher)
            for one in answer.evidence
        )

    return [readable(*row) for row in zip(answers, questions, lengths.tolist(), strict=True)]


def _search_all(run: LoadedRun, texts: Sequence[str], *, retriever: RetrieverName, k: int) -> Search:
    if retriever == "model":
        _ = run.version  # its own progress comes before that of the search
    parts = []
    with reporter(f"search ({retriever})", len(texts), unit="questions", write=to_stderr) as progress:
        for start in range(0, len(texts), SEARCHED_AT_ONCE):
            part = texts[start : start + SEARCHED_AT_ONCE]
            parts.append(search(run, part, retriever=retriever, k=k))
            progress.update(start + len(part))
    return Search(
        scores=np.concatenate([part.scores for part in parts]),
        block_ids=np.concatenate([part.block_ids for part in parts]),
    )


def _read_all(
    run: LoadedRun,
    questions: Sequence[Question],
    found: Search,
    *,
    count: int,
    retriever: RetrieverName,
) -> list[Answer]:
    """Answer all questions, telling how far it has come."""
    answers: list[Answer] = []
    texts = [question.question for question in questions]
    step = 8 * run.batch_size
    with reporter("read", len(texts), unit="questions", write=to_stderr) as progress:
        for start in range(0, len(texts), step):
            rows = slice(start, start + step)
            part = Search(scores=found.scores[rows], block_ids=found.block_ids[rows])
            answers += answer_questions(run, texts[rows], retriever=retriever, candidates=count, found=part)
            progress.update(len(answers))
    return answers
