"""Open-domain QA fine-tuning: span reader and query embedder against a fixed index."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import (
    Occurrences,
    QuestionRows,
    Questions,
    find_occurrences,
    question_stream,
    regex_occurrences,
)
from realm_jax.errors import CorpusError
from realm_jax.index.protocol import Storage
from realm_jax.models.build import Models
from realm_jax.ops.open_qa import QA_LOSSES
from realm_jax.runs.candidates import CandidateSearch, query_embedder
from realm_jax.runs.live_index import (
    INDEX_FOLDER,
    IndexVersion,
    block_embedder,
    build_version,
    load_version,
)
from realm_jax.runs.phase import Phase, read_record, run_phase
from realm_jax.runs.setup import initial_params, mesh_of, models_of, resolve
from realm_jax.runs.speed import Spent, step_flops
from realm_jax.text.regex import RegexMatcher
from realm_jax.text.swap import swap_answers
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.steps import qa_loss
from realm_jax.types import NO_BLOCK, Candidates, Params, QuestionBatch

# (steps done, questions [B], candidates [B, K]) -> candidates, where answers stand in them
FindAnswers = Callable[[int, QuestionRows, Candidates], tuple[Candidates, Occurrences]]


def run_qa(
    config: Config,
    workdir: Path,
    *,
    start_from: Path | None = None,
    stop_at: int | None = None,
    trace_steps: int = 0,
) -> dict[str, float]:
    """Fine-tune reader and query embedder on questions with answers.

    The embedder is split in two towers, so that the query side can move while the block embeddings stay. The
    reader starts from the knowledge-augmented encoder, unless `start_from` was fine-tuned already.

    Args:
      config: the experiment; `config.qa` is the phase.
      workdir: folder of the run; resumed if it holds a checkpoint.
      start_from: run folder to take parameters from; None starts from fresh ones.
      stop_at: stop after this step.
      trace_steps: steps recorded by the profiler.

    Returns:
      The last logged values.

    Source: REALM, section 3.2 and 4.2; ORQA, section 5.
    """
    corpus = Corpus.open(config.corpus)
    config = resolve(replace(config, model=replace(config.model, two_towers=True)), corpus)
    questions = Questions.load(config.train_questions)
    mesh, models = mesh_of(config, "qa"), models_of(config, rematerialisation=config.qa.rematerialisation)
    params = initial_params(models, seed=config.seed, start_from=start_from, mesh=mesh)
    if start_from is None or Checkpoints(start_from).record()["phase"] != "qa":
        reader = {**params["reader"], "bert": jax.tree.map(jnp.copy, params["encoder"]["bert"])}
        params = {**params, "reader": reader}
    settings = config.qa
    version = open_or_build(config, workdir, models, params, corpus, mesh)
    spent = Spent()
    search = CandidateSearch(
        query_embedder(models, mesh),
        corpus,
        candidates=settings.candidates,
        extra=0,
        null_block=False,
        timed=partial(spent.on, "search"),
    )
    rate = settings.optimizer.learning_rate
    with RegexMatcher() as matcher:
        answers = answer_finder(
            questions,
            corpus,
            max_answers=settings.max_answers,
            swap_probability=settings.swap_probability,
            max_length=config.model.max_span_width,
            seed=config.seed,
            matcher=matcher,
        )
        phase = Phase(
            name="qa",
            settings=settings,
            flops=step_flops(config, "qa", models),
            spent=spent,
            loss=partial(
                qa_loss,
                models=models,
                joint_length=config.shapes.joint_length,
                answer_loss=QA_LOSSES[settings.loss],
            ),
            learning_rates={models.query_tower: rate, "reader": rate},
            stream=question_stream(
                questions,
                corpus.tokenizer,
                batch_size=settings.batch_size,
                query_length=config.shapes.query_length,
                seed=config.seed,
            ),
            inputs=QuestionInputs(search, version, answers),
            record=lambda: {"index_version": version.version},
        )
        return run_phase(
            phase, params, config=config, workdir=workdir, stop_at=stop_at, mesh=mesh, trace_steps=trace_steps
        )


class QuestionInputs:
    """Turn a batch of questions into the step's inputs: candidates, answers, block embeddings.

    Args:
      search: finds candidates.
      version: the index, fixed.
      answers: finds, and may swap, the answers.
    """

    def __init__(self, search: CandidateSearch, version: IndexVersion, answers: FindAnswers):
        self._search, self._version, self._answers = search, version, answers

    def __call__(
        self, step: int, params: Params, rows: QuestionRows
    ) -> tuple[QuestionBatch, Candidates, np.ndarray]:
        """Return the batch, its candidates `[B, K]` and their embeddings float32 `[B, K, D]`."""
        origin = np.full(len(rows.numbers), NO_BLOCK, np.int32)
        candidates = self._search(params, self._version.index, rows.question, origin)
        candidates, found = self._answers(step, rows, candidates)
        batch = QuestionBatch(
            question=rows.question,
            answer_starts=found.starts,
            answer_stops=found.stops,
            answer_mask=found.mask,
            has_answer=found.has_answer,
        )
        return batch, candidates, self._version.embeddings[np.maximum(candidates.block_ids, 0)]


def answer_finder(
    questions: Questions,
    corpus: Corpus,
    *,
    max_answers: int,
    swap_probability: float,
    max_length: int,
    seed: int,
    matcher: RegexMatcher,
) -> FindAnswers:
    """Tokenise all answers once, and return what finds them in candidates.

    Args:
      questions: the whole set; all with strings as answers, or all with regular expressions.
      corpus: the blocks.
      max_answers: occurrences kept a block.
      swap_probability: of a question's answer being swapped for another span.
      max_length: longest answer swapped in, tokens.
      seed: of the swaps; those of step s depend on (seed, s) alone.
      matcher: runs regular expressions.

    Raises:
      CorpusError: the set mixes strings and regular expressions, or the latter are to be swapped.
    """
    kinds = {question.is_regex for question in questions}
    if len(kinds) > 1 or (kinds == {True} and swap_probability):
        raise CorpusError(
            "a training set's answers are all strings, or all regular expressions and not swapped",
            got="both" if len(kinds) > 1 else f"qa.swap_probability {swap_probability}",
            remedy="Split the file by `is_regex`; leave qa.swap_probability at 0 for expressions.",
        )
    if kinds == {True}:

        def match(step: int, rows: QuestionRows, candidates: Candidates) -> tuple[Candidates, Occurrences]:
            del step
            patterns = [questions[number].answers for number in rows.numbers.tolist()]
            return candidates, regex_occurrences(
                corpus, candidates.block_ids, patterns, matcher=matcher, max_spans=max_answers
            )

        return match
    tokenizer = corpus.tokenizer
    runs = [
        [run.ids for run in tokenizer.encode_batch(list(question.answers), special_tokens=False)]
        for question in questions
    ]
    pool = corpus.span_pool() if swap_probability else None

    def find(step: int, rows: QuestionRows, candidates: Candidates) -> tuple[Candidates, Occurrences]:
        answers = [runs[number] for number in rows.numbers.tolist()]
        if pool is not None:
            candidates, answers = swap_answers(
                rows.question,
                candidates,
                answers,
                pool,
                block_spans=corpus.spans,
                rng=np.random.default_rng([seed, step]),
                probability=swap_probability,
                max_length=max_length,
            )
        return candidates, find_occurrences(
            candidates.blocks.body.ids,
            answers,
            max_spans=max_answers,
            is_continuation=tokenizer.is_continuation,
            unk_id=tokenizer.unk_id,
        )

    return find


def open_or_build(
    config: Config,
    workdir: Path,
    models: Models,
    params: Params,
    corpus: Corpus,
    mesh: Mesh | None = None,
) -> IndexVersion:
    """Embed the corpus with the block tower, or open what an earlier start of this run embedded."""
    root = workdir / INDEX_FOLDER
    if read_record(workdir) is not None:
        return load_version(root, 0, corpus=corpus, mesh=mesh)
    shutil.rmtree(root, ignore_errors=True)
    return build_version(
        {models.block_tower: params[models.block_tower]},
        0,
        lambda: False,
        embed=block_embedder(models, block_length=config.shapes.block_length, mesh=mesh),
        corpus=corpus,
        root=root,
        engine=config.index.engine,
        batch_size=config.index.embed_batch_size,
        recall_k=config.index.recall_k,
        recall_floor=config.index.recall_floor,
        recall_sample=config.index.recall_sample,
        storage=Storage(mesh, config.index.storage),
    )
