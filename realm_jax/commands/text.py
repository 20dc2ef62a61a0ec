"""vocabulary, prepare. Nothing here imports jax."""

import importlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from realm_jax.checks import require
from realm_jax.commands.parsing import OptionalInt, OptionalPath, OptionalText, parse
from realm_jax.data.prepare import Encoder
from realm_jax.data.prepare import prepare as prepare_corpus
from realm_jax.data.records import Fields
from realm_jax.data.sources import open_source
from realm_jax.data.texts import Texts
from realm_jax.data.writer import BAD_RECORDS
from realm_jax.errors import ConfigError, CorpusError, MissingExtra
from realm_jax.text.normalisation import SETTINGS, TOKENIZER, UNCASED
from realm_jax.text.tokenizer import Tokenizer, normalisation_beside
from realm_jax.text.vocabulary import train_vocabulary

Sources = Annotated[
    Positional[tuple[str, ...]],
    arg(
        metavar="SOURCE ...",
        help=".jsonl or .jsonl.gz: a JSON object a line, a document each; a folder: its .txt "
        "files, those in subfolders too, titled by file name; .txt: one such file; .xml, .xml.bz2 or "
        ".xml.gz: a dump of Wikipedia or another MediaWiki, or a part of one; block_records.npy: the blocks "
        "of a public open-QA model; tfds:name/config:split: a TFDS dataset on disk in ArrayRecord format. "
        "Several make one corpus.",
        help_behavior_hint="(at least one)",
    ),
]


@dataclass(frozen=True)
class FieldNames:
    """The names under which a JSONL or TFDS source keeps what is needed."""

    title: str = "title"  # field of the title; an empty name: there are no titles
    text: str = "text"  # field of the text
    id: str = "id"  # field of the document's id, text or number; a record may lack it

    def fields(self) -> Fields:
        return Fields(self.title or None, self.text, self.id)


@dataclass(frozen=True)
class Vocabulary:
    """Train a WordPiece vocabulary, shared by all the sources given; corpora of one run must share one.

    Records that cannot be read are passed over; `prepare` reports them.
    """

    sources: Sources
    out: Path  # the vocab.txt to write; must not exist
    size: int = 8000  # wordpieces, special tokens included; fewer if the texts are small
    min_frequency: int = 2  # times a pair of pieces must occur to be joined, and a character to be kept
    fields: FieldNames = field(default_factory=FieldNames)
    tfds_dir: OptionalPath = None  # where TFDS keeps its datasets (default: where TFDS does)


@dataclass(frozen=True)
class Prepare:
    """Cut documents into blocks, tokenise them once, tag salient spans, write a prepared corpus.

    Blocks are filled greedily with whole sentences. A bad record (broken JSON, invalid UTF-8, a missing or
    empty field) is left out, counted by reason, and named with file and line: the first ones here, all in
    bad_records.jsonl in the folder. Pages of a dump that are no articles are passed over and counted. The
    folder appears when it is complete.
    """

    sources: Sources
    out: Path  # folder to write; must not exist, unless --overwrite
    # vocab.txt, or a folder that holds one (prepared corpus, run); needed unless a size is given
    tokenizer: OptionalPath = None
    vocab_size: OptionalInt = None  # instead of --tokenizer: size of a vocabulary trained on the sources
    max_block_tokens: int = 288  # wordpieces of a block, the closing [SEP] included
    title_tokens: int = 24  # wordpieces of a title, [CLS] and [SEP] included; longer titles lose their end
    tagger: str = "rules"  # of salient spans; rules: dates, names, numbers; dates: dates alone
    splitter: str = "rules"  # of sentences; rules: at stops and blank lines; lines: at line ends
    fields: FieldNames = field(default_factory=FieldNames)
    workers: OptionalInt = None  # processes (default: one a core)
    strict: bool = False  # stop at the first bad record instead of leaving it out
    overwrite: bool = False  # replace the corpus of that name
    # options of Apache Beam: let a pipeline of it read and encode; "": in this process, for a trial
    beam: OptionalText = None
    # where the pipeline's workers leave what they have encoded; all must see it (default: beside --out)
    beam_folder: OptionalPath = None
    tfds_dir: OptionalPath = None  # where TFDS keeps its datasets (default: where TFDS does)


def vocabulary(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `vocabulary`."""
    options = parse(
        Vocabulary,
        arguments,
        prog=prog,
        examples="""
        realm_jax vocabulary encyclopaedia.jsonl pretraining.jsonl --out vocab.txt --size 8000
        realm_jax vocabulary my_notes/ --out vocab.txt --size 4000
        """,
    )
    if options.out.exists():
        raise CorpusError(
            "a vocabulary is written to a new file", got=str(options.out), remedy="Choose another name."
        )
    if normalisation_beside(options.out) != UNCASED:
        raise CorpusError(
            f"a trained vocabulary is lower-cased, and no {SETTINGS} or {TOKENIZER} says otherwise beside it",
            got=f"such files in {options.out.parent}",
            remedy="Choose another folder.",
        )
    texts = Texts(  # `prepare` reports bad records
        [open_source(s, tfds_dir=options.tfds_dir) for s in options.sources], options.fields.fields()
    )
    if not any(True for _ in texts):
        raise CorpusError(
            "a vocabulary is trained on texts",
            got=f"no document in {', '.join(options.sources) or 'no source'}",
            remedy="Name JSONL files or folders of .txt files.",
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    aside = options.out.with_name(f".{options.out.name}.{os.getpid()}.unfinished")
    try:
        aside.touch()  # before the work, which would be lost where nothing can be written
        tokens = train_vocabulary(texts, vocab_size=options.size, min_frequency=options.min_frequency)
        Tokenizer(tokens).save(aside)
        aside.rename(options.out)
    finally:
        aside.unlink(missing_ok=True)
    print(f"{options.out}: {len(tokens)} wordpieces from {texts.documents} documents")


def prepare(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `prepare`."""
    options = parse(
        Prepare,
        arguments,
        prog=prog,
        examples="""
        realm_jax prepare wiki.jsonl.gz --out corpora/wiki --vocab-size 30000
        realm_jax prepare my_notes/ --out corpora/notes --tokenizer vocab.txt --max-block-tokens 128
        realm_jax prepare tfds:wiki40b/en:train --out corpora/wiki40b --tokenizer bert/vocab.txt
        realm_jax prepare enwiki-pages-articles.xml.bz2 --out corpora/enwiki --tokenizer bert/vocab.txt
        realm_jax prepare enwiki.xml.bz2 --out enwiki --tokenizer vocab.txt --beam="--runner=FlinkRunner"
        """,
    )
    require(
        ":/" not in str(options.out),
        "--out is a folder of this machine",
        got=str(options.out),
        remedy="Mount the object store, or copy the folder there afterwards.",
    )
    report = prepare_corpus(
        options.sources,
        options.out,
        tokenizer=options.tokenizer,
        vocab_size=options.vocab_size,
        max_block_tokens=options.max_block_tokens,
        title_tokens=options.title_tokens,
        tagger=options.tagger,
        splitter=options.splitter,
        fields=options.fields.fields(),
        workers=options.workers,
        encoder=_pipeline(options),
        strict=options.strict,
        overwrite=options.overwrite,
        tfds_dir=options.tfds_dir,
    )
    print(
        f"{report.path}: {report.blocks} blocks from {report.documents} documents, "
        f"{report.characters} characters, hash {report.content_hash[:12]}"
    )
    if report.skipped_counts:
        print(f"passed over: {', '.join(f'{n} {reason}' for reason, n in report.skipped_counts.items())}")
    if report.bad_counts:
        print(f"left out: {', '.join(f'{n} {reason}' for reason, n in report.bad_counts.items())}")
        for bad in report.bad_records:
            print(f"  {bad}")
        more = sum(report.bad_counts.values()) - len(report.bad_records)
        if more:
            print(f"  and {more} more, all in {report.path / BAD_RECORDS}")


def _pipeline(options: Prepare) -> Encoder | None:
    """Return the pipeline that was asked for, or None."""
    if options.beam is None:
        require(
            options.beam_folder is None,
            "--beam-folder is where the workers of --beam leave what they have encoded",
            got=str(options.beam_folder),
            remedy="Give --beam too, or neither.",
        )
        return None
    try:
        pipeline = importlib.import_module("realm_jax.data.pipeline")
    except ImportError as error:
        raise MissingExtra(
            "--beam needs the package apache-beam",
            got=str(error),
            remedy="pip install -r requirements-beam.txt.",
        ) from error
    try:
        words = shlex.split(options.beam)
    except ValueError as error:
        raise ConfigError(
            "--beam holds options as a shell reads them",
            got=f"{options.beam!r} ({error})",
            remedy="Close the quotation.",
        ) from error
    encoder: Encoder = pipeline.beam_encoder(words, tfds_dir=options.tfds_dir, folder=options.beam_folder)
    return encoder
