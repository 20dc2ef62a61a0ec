"""Open-domain QA fine-tuning: span reader and query embedder against a fixed index, or end to end."""

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.config import Config
from realm_jax.data.beam import PatternAnswers, beam_has_answer
from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import (
    Occurrences,
    QuestionRows,
    Questions,
    find_occurrences,
    question_stream,
)
from realm_jax.errors import CorpusError
from realm_jax.hosts.rows import BatchShare
from realm_jax.ops.open_qa import QA_LOSSES
from realm_jax.progress import to_stderr
from realm_jax.runs.ahead import Ahead, inputs_worker
from realm_jax.runs.phase import Phase, run_phase
from realm_jax.runs.qa_retriever import index_part, lexical_part
from realm_jax.runs.question_inputs import BeamAnswers, FindAnswers, QuestionInputs
from realm_jax.runs.setup import initial_params, mesh_of, models_of, resolve
from realm_jax.runs.speed import Spent, step_flops
from realm_jax.text.answers import spellings
from realm_jax.text.regex import RegexMatcher
from realm_jax.text.rewrite import rewrite_evidence
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.steps import qa_loss
from realm_jax.types import Candidates, Params, Rows


def run_qa(
    config: Config,
    workdir: Path,
    *,
    start_from: Path | None = None,
    encoder_from: Path | None = None,
    stop_at: int | None = None,
    trace_steps: int = 0,
) -> dict[str, float]:
    """Fine-tune reader and query embedder on questions with answers.

    The embedder is split in two towers, so that the query side can move while the block embeddings stay; with
    `qa.end_to_end` both move and the index is refreshed, with BM25 neither. The reader starts from the
    knowledge-augmented encoder, unless the run they come from was fine-tuned already.

    Args:
      config: the experiment; `config.qa` is the phase.
      workdir: folder of the run; resumed if it holds a checkpoint.
      start_from: run folder to take parameters from; None starts from fresh ones.
      encoder_from: run folder to take encoder and reader from instead.
      stop_at: stop after this step.
      trace_steps: steps recorded by the profiler.

    Returns:
      The last logged values.

    Source: REALM, section 3.2 and 4.2; ORQA, section 5.
    """
    corpus = Corpus.open(config.corpus)
    config = resolve(replace(config, model=replace(config.model, two_towers=True)), corpus)
    questions = Questions.load(config.train_questions)
    for line in questions.left_out():
        to_stderr(line)
    _check_answers(questions, swap_probability=config.qa.swap_probability)
    mesh, models = mesh_of(config, "qa"), models_of(config, rematerialisation=config.qa.rematerialisation)
    params = initial_params(
        models, seed=config.seed, start_from=start_from, encoder_from=encoder_from, mesh=mesh
    )
    params = _with_reader(params, encoder_from or start_from)
    settings = config.qa
    spent = Spent()
    share = BatchShare(mesh, whole=settings.swap_probability > 0)  # swaps are drawn for a batch as a whole
    part = (
        lexical_part(questions, corpus)
        if settings.retriever == "bm25"
        else index_part(
            config,
            workdir,
            models=models,
            params=params,
            corpus=corpus,
            questions=questions,
            mesh=mesh,
            timed=partial(spent.on, "search"),
            share=share,
        )
    )
    with RegexMatcher() as matcher, closing(part):
        answers, beam_answers = answer_finder(
            questions,
            corpus,
            max_answers=settings.max_answers,
            swap_probability=settings.swap_probability,
            drop_sentences=settings.drop_sentences,
            strange_sentences=settings.strange_sentences,
            max_length=config.model.max_span_width,
            seed=config.seed,
            matcher=matcher,
        )
        stream = question_stream(
            questions,
            corpus.tokenizer,
            batch_size=settings.batch_size,
            rows=share.drawn(settings.batch_size),
            query_length=config.shapes.query_length,
            seed=config.seed,
            searched=corpus.content_hash,
        )
        inputs = QuestionInputs(
            part.retriever,
            corpus,
            answers=answers,
            beam_answers=beam_answers,
            candidates=settings.candidates,
            beam=settings.beam or settings.candidates,
            extra=config.index.extra,
            positives_first=settings.positives_first,
            share=share,
        )
        ahead = Ahead(stream, inputs, inputs_worker(ahead=settings.ahead), version=part.version)
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
                relevance=part.relevance,
                is_continuation=corpus.tokenizer.is_continuation if settings.whole_words else None,
            ),
            learning_rates={**part.learning_rates, "reader": settings.optimizer.learning_rate},
            stream=ahead,
            inputs=ahead,
            **(part.refresh.in_phase(values=settings.end_to_end, more=ahead.values) if part.refresh else {}),
        )
        with closing(ahead):
            values = run_phase(
                phase,
                params,
                config=config,
                workdir=workdir,
                stop_at=stop_at,
                mesh=mesh,
                trace_steps=trace_steps,
            )
        if matcher.timeouts:
            to_stderr(f"{matcher.timeouts} regular expressions took too long for a text and were given up")
        return values


def _with_reader(params: Params, come_from: Path | None) -> Params:
    """Start the reader from the encoder, unless the run that both come from was fine-tuned already."""
    if come_from is not None and Checkpoints(come_from).record()["phase"] == "qa":
        return params
    reader = {**params["reader"], "bert": jax.tree.map(jnp.copy, params["encoder"]["bert"])}
    return {**params, "reader": reader}


def _check_answers(questions: Questions, *, swap_probability: float) -> None:
    """Refuse a set that mixes strings and regular expressions, or whose expressions are to be swapped."""
    kinds = {question.is_regex for question in questions}
    if len(kinds) > 1 or (kinds == {True} and swap_probability):
        raise CorpusError(
            "a training set's answers are all strings, or all regular expressions and not swapped",
            got="both" if len(kinds) > 1 else f"qa.swap_probability {swap_probability}",
            remedy="Split the file by `is_regex`; leave qa.swap_probability at 0 for expressions.",
        )


def answer_finder(
    questions: Questions,
    corpus: Corpus,
    *,
    max_answers: int,
    swap_probability: float,
    drop_sentences: float,
    strange_sentences: int,
    max_length: int,
    seed: int,
    matcher: RegexMatcher,
) -> tuple[FindAnswers, BeamAnswers]:
    """Tokenise all answers once, and return what finds them in candidates, and in the rest of a beam.

    Swapped answers stand in the candidates alone: the rest of a beam is judged by the answers as they are.

    Args:
      questions: the whole set; all with strings as answers, or all with regular expressions and no swaps.
      corpus: the blocks.
      max_answers: occurrences kept a block.
      swap_probability: of a span being replaced by another of its kind, see `rewrite_evidence`; 0 rewrites
        nothing.
      drop_sentences: of a sentence without the answer being left out, where something is rewritten.
      strange_sentences: sentences of other blocks mixed in there.
      max_length: longest answer swapped in, tokens.
      seed: of the swaps; those of step s depend on (seed, s) alone.
      matcher: runs regular expressions.
    """
    if questions[0].is_regex:
        found = PatternAnswers(corpus, questions, matcher=matcher, max_spans=max_answers)

        def match(
            step: int, rows: QuestionRows, candidates: Candidates
        ) -> tuple[Rows, Candidates, Occurrences]:
            del step
            return rows.question, candidates, found.occurrences(rows.numbers, candidates.block_ids)

        return match, found.has_answer
    tokenizer = corpus.tokenizer
    written = list if tokenizer.normalisation.lowercase else spellings
    runs = [
        [run.ids for run in tokenizer.encode_batch(written(question.answers), special_tokens=False)]
        for question in questions
    ]
    pool = None
    if swap_probability:
        pool = corpus.span_pool(
            further=[[run.astype(np.int32) for each in runs for run in each], corpus.titles()]
        )

    def find(step: int, rows: QuestionRows, candidates: Candidates) -> tuple[Rows, Candidates, Occurrences]:
        question, answers = rows.question, [runs[number] for number in rows.numbers.tolist()]
        if pool is not None:
            question, candidates, answers = rewrite_evidence(
                question,
                candidates,
                answers,
                pool,
                corpus=corpus,
                rng=np.random.default_rng([seed, step]),
                probability=swap_probability,
                drop=drop_sentences,
                strangers=strange_sentences,
                max_length=max_length,
            )
        return (
            question,
            candidates,
            find_occurrences(
                candidates.blocks.body.ids,
                answers,
                max_spans=max_answers,
                is_continuation=tokenizer.is_continuation,
                unk_id=tokenizer.unk_id,
            ),
        )

    def find_further(numbers: np.ndarray, block_ids: np.ndarray) -> np.ndarray:
        return beam_has_answer(
            corpus.arrays["bodies"],
            block_ids,
            [runs[number] for number in numbers.tolist()],
            is_continuation=tokenizer.is_continuation,
            unk_id=tokenizer.unk_id,
        )

    return find, find_further
