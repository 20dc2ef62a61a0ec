"""embed, evaluate, ask, fill, retrieve: use of a trained run."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from realm_jax.commands.parsing import OptionalBool, OptionalInt, OptionalPath, OptionalText, parse
from realm_jax.config import RetrieverName
from realm_jax.errors import ConfigError

OptionalRetriever = Annotated[RetrieverName | None, arg(metavar="{model,bm25,null}", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What every use of a run can choose."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="folder of a run")]
    # prepared corpus to search, of the run's vocabulary (default: the one in the run's config)
    corpus: OptionalPath = None
    step: OptionalInt = None  # checkpoint to use, by its step (default: the newest)


@dataclass(frozen=True, kw_only=True)
class Searched(Opened):
    """What every search can choose."""

    fresh_index: bool = False  # embed the corpus anew if the index is older than the parameters


@dataclass(frozen=True, kw_only=True)
class Embed(Opened):
    """Embed a corpus with a run's parameters and publish the index in the run's folder.

    Without it, evaluate, ask, fill and retrieve take the index the checkpoint was saved with, and build one
    only where there is none.
    """


@dataclass(frozen=True, kw_only=True)
class Evaluate(Searched):
    """Evaluate a run: exact match, recall@k, the reader's upper bound, retrieval utility.

    exact_match: the answer given is right, after normalisation.
    reader_upper_bound: some span that the reader could choose in the blocks it read is right.
    recall@k: an answer stands in one of the k best blocks.
    gold_recall@k: one of the k best blocks is of a document named in "gold_passage_ids".
    retrieval_utility: what the blocks add to the log-likelihood of a masked token, in nats.

    Means come with 95% bootstrap intervals, over all questions and by source. Prints a table and writes
    evaluation.json and predictions.jsonl.
    """

    # .jsonl with "question", "answers", if any "id", "source", "is_regex", "gold_passage_ids"; or
    # tfds:name:split; or dev, the set named in the run's config
    questions: OptionalText = None
    out: OptionalPath = None  # folder to write to (default: RUN/evaluation-RETRIEVER)
    # model: the run's embedder; bm25: lexical; null: no block, closed book (default: as in fine-tuning)
    retriever: OptionalRetriever = None
    ks: tuple[int, ...] = (1, 5, 10, 20, 50, 100)  # k of recall@k, blocks
    reader: OptionalBool = None  # answer the questions too (default: if the run was fine-tuned)
    candidates: OptionalInt = None  # blocks read a question (default: as in fine-tuning)
    utility_batches: int = 0  # batches of masked sentences for retrieval utility and fill accuracy
    masked_text: OptionalPath = None  # prepared corpus these come from (default: the text of pre-training)
    masker: Literal["salient", "random_span", "uniform"] = "salient"  # how they are masked
    batch_size: int = 8  # questions or texts read at once; results depend on it by rounding alone


@dataclass(frozen=True, kw_only=True)
class Ask(Searched):
    """Answer questions, and show the blocks each answer was looked for in.

    Shows the best answer and its probability; of every block read, p(z|x) (its probability among these), the
    score by which it was found, the best answer in it and that answer's probability. Needs a fine-tuned run.
    """

    # without any, they are read from standard input, one a line
    question: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[QUESTION ...]", help_behavior_hint="")
    ] = ()
    # model: the run's embedder; bm25: lexical; null: no block, closed book (default: as in fine-tuning)
    retriever: OptionalRetriever = None
    candidates: OptionalInt = None  # blocks read (default: as in fine-tuning)
    json: bool = False  # print JSON lines


@dataclass(frozen=True, kw_only=True)
class Fill(Searched):
    """Fill in the [MASK]s of a sentence: without a block, with each retrieved block, and marginalised.

    Shows the most probable wordpieces and their probability, and p(y|z,x) of a filler given as --target: with
    the null block (no document), with each retrieved block, and weighted by p(z|x) over all of them. Needs a
    run of pretrain.
    """

    sentence: Annotated[Positional[str], arg(metavar="SENTENCE", help="text with [MASK]s")]
    target: OptionalText = None  # filler to give the probability of; one [MASK] stretches to its wordpieces
    top: int = 5  # wordpieces shown a mask
    candidates: OptionalInt = None  # blocks, the null block included (default: as in pre-training)
    retriever: RetrieverName = "model"  # model: the run's own; bm25: lexical; null: the null block alone
    json: bool = False  # print JSON


@dataclass(frozen=True, kw_only=True)
class Retrieve(Searched):
    """Search a corpus for any text, with the retriever of a run."""

    text: Annotated[Positional[str], arg(metavar="TEXT", help="question, sentence, name")]
    k: int = 5  # blocks
    retriever: Literal["model", "bm25"] = "model"  # model: the run's own; bm25: lexical
    json: bool = False  # print JSON lines


def embed(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `embed`."""
    options = parse(
        Embed,
        arguments,
        prog=prog,
        examples="""
        realm_jax embed runs/realm
        realm_jax embed runs/realm --corpus corpora/wiki_edited
        """,
    )
    run = _open(options, fresh_index=True, batch_size=1)
    version = run.version
    print(f"{run.folder}: index version {version.version}, {len(version.embeddings)} blocks")


def evaluate(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `evaluate`."""
    options = parse(
        Evaluate,
        arguments,
        prog=prog,
        examples="""
        realm_jax evaluate runs/qa --questions qa_dev.jsonl
        realm_jax evaluate runs/qa --questions qa_dev.jsonl --retriever bm25
        realm_jax evaluate runs/ict --questions qa_dev.jsonl --ks 1 5 20 --out results/ict
        realm_jax evaluate runs/realm --utility-batches 50
        """,
    )
    from realm_jax.data.corpus import Corpus
    from realm_jax.data.questions import Questions
    from realm_jax.inspect.evaluate import evaluate_run, write_evaluation
    from realm_jax.inspect.tables import evaluation_table, show
    from realm_jax.progress import to_stderr

    run = _open(options, fresh_index=options.fresh_index, batch_size=options.batch_size)
    path = run.config.dev_questions if options.questions == "dev" else options.questions
    questions = Questions.load(path) if path is not None else None
    for line in questions.left_out() if questions else ():
        to_stderr(line)
    out = options.out or options.run / f"evaluation-{options.retriever or run.own_retriever}"
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)  # before the work, which would be lost otherwise
    try:
        evaluation = evaluate_run(
            run,
            questions,
            retriever=options.retriever,
            ks=options.ks,
            read=options.reader,
            candidates=options.candidates,
            utility_batches=options.utility_batches,
            masked_text=Corpus.open(options.masked_text) if options.masked_text else None,
            masker=options.masker,
        )
    except BaseException:
        if made:
            out.rmdir()
        raise
    show(evaluation_table(evaluation))
    write_evaluation(evaluation, out)
    print(f"written to {out}")


def ask(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `ask`."""
    options = parse(
        Ask,
        arguments,
        prog=prog,
        examples="""
        realm_jax ask runs/qa "who discovered radium?"
        realm_jax ask runs/qa "who discovered radium?" --retriever bm25 --json
        realm_jax ask runs/qa --corpus corpora/wiki_edited "who discovered radium?"
        realm_jax ask runs/qa < questions.txt
        """,
    )
    import sys

    from realm_jax.inspect.answer import answer_questions
    from realm_jax.inspect.tables import answer_view, show

    questions = options.question or tuple(line.strip() for line in sys.stdin if line.strip())
    run = _open(options, fresh_index=options.fresh_index, batch_size=min(8, max(1, len(questions))))
    answers = answer_questions(run, questions, retriever=options.retriever, candidates=options.candidates)
    for answer in answers:
        if options.json:
            _print_json(answer)
        else:
            show(answer_view(answer))


def fill(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `fill`."""
    options = parse(
        Fill,
        arguments,
        prog=prog,
        examples="""
        realm_jax fill runs/realm "The capital of Peru is [MASK]."
        realm_jax fill runs/realm "Because 3 is a [MASK] prime, a triangle is easily built." --target Fermat
        """,
    )
    from realm_jax.inspect.fill import fill_masks
    from realm_jax.inspect.tables import filled_view, show

    run = _open(options, fresh_index=options.fresh_index, batch_size=1)
    filled = fill_masks(
        run,
        options.sentence,
        target=options.target,
        top=options.top,
        candidates=options.candidates,
        retriever=options.retriever,
    )
    if options.json:
        _print_json(filled)
    else:
        show(filled_view(filled))


def retrieve(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `retrieve`."""
    options = parse(
        Retrieve,
        arguments,
        prog=prog,
        examples="""
        realm_jax retrieve runs/realm "rivers of South America" --k 10
        realm_jax retrieve runs/realm "rivers of South America" --retriever bm25 --json
        """,
    )
    from realm_jax.inspect.retrieve import retrieve as search
    from realm_jax.inspect.tables import search_view, show

    if not options.text.strip():
        raise ConfigError("a search needs a text", got="none", remedy="Write it behind the run.")
    run = _open(options, fresh_index=options.fresh_index, batch_size=1)
    found = search(run, options.text, retriever=options.retriever, k=options.k)
    if options.json:
        for score, block_id, text in found:
            row = {"score": score, "block_id": block_id, "document_id": text.document_id}
            print(json.dumps(row | {"title": text.title, "text": text.body}, ensure_ascii=False))
    else:
        show(search_view(found))


def _open(options: Opened, *, fresh_index: bool, batch_size: int) -> Any:
    from realm_jax.inspect.loaded import open_run

    return open_run(
        options.run,
        corpus=options.corpus,
        batch_size=batch_size,
        step=options.step,
        fresh_index=fresh_index,
    )


def _print_json(value: Any) -> None:
    print(json.dumps(asdict(value), ensure_ascii=False))
