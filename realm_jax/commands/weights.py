"""import, export: public checkpoints in and out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from tyro.conf import Positional, arg

from realm_jax.commands.parsing import OptionalBool, OptionalInt, OptionalPath, parse

Architecture = Literal[
    "RealmEmbedder",
    "RealmScorer",
    "RealmKnowledgeAugEncoder",
    "RealmReader",
    "RealmForOpenQA",
    "BertModel",
    "BertForMaskedLM",
]


@dataclass(frozen=True)
class Import:
    """Turn a public checkpoint into a run folder: checkpoint, config.json, vocab.txt.

    Takes BERT, sentence encoders and the REALM classes: a folder with config.json and model.safetensors (or
    pytorch_model.bin), or a name on the model hub. Parts that it lacks start from the BERT of another part.
    """

    checkpoint: Annotated[Positional[str], arg(metavar="CHECKPOINT", help="folder, or name on the model hub")]
    workdir: Path  # run folder to write; must not hold a run
    # what stands for a row in a BERT's embedder (default: what the folder says)
    pooling: Annotated[
        Literal["pooler", "cls", "mean"] | None, arg(metavar="{pooler,cls,mean}", help_behavior_hint="")
    ] = None
    normalize: OptionalBool = None  # embeddings of length 1 (default: what the folder says)
    # prepared corpus to search; of an open-QA model: its blocks in order, their embeddings become the index
    corpus: OptionalPath = None
    seed: int = 0  # of the heads that stay fresh


@dataclass(frozen=True)
class Export:
    """Write a run as a public checkpoint: config.json, model.safetensors, vocab.txt."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="folder of a run")]
    out: Path  # folder to create; must not exist, or be empty
    architecture: Annotated[
        Architecture | None,
        arg(
            metavar="CLASS",
            help=f"public class to write it as, one of {', '.join(get_args(Architecture))} "
            "(default: the layout of the import the run folder is)",
            help_behavior_hint="",
        ),
    ] = None
    corpus: OptionalPath = None  # its block embeddings go into RealmForOpenQA (default: the run's corpus)
    step: OptionalInt = None  # checkpoint to use, by its step (default: the newest)


def import_(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `import`."""
    options = parse(
        Import,
        arguments,
        prog=prog,
        examples="""
        realm_jax import bert-base-uncased --workdir runs/bert
        realm_jax import ./minilm --workdir runs/minilm
        realm_jax prepare wiki.jsonl --out corpora/wiki --tokenizer runs/minilm
        realm_jax retrieve runs/minilm --corpus corpora/wiki "rivers of South America"
        realm_jax ict --workdir runs/ict --start-from runs/minilm --corpus corpora/wiki
        """,
    )
    from realm_jax.data.corpus import Corpus
    from realm_jax.models.hub import checkpoint_folder
    from realm_jax.models.pretrained import import_pretrained
    from realm_jax.runs.imported import BLOCK_EMBEDDINGS, BLOCK_RECORDS, save_imported

    folder = checkpoint_folder(options.checkpoint)
    pretrained = import_pretrained(folder, pooling=options.pooling, normalize=options.normalize)
    corpus = Corpus.open(options.corpus) if options.corpus else None
    fresh = save_imported(pretrained, options.workdir, corpus=corpus, seed=options.seed)
    print(f"{options.workdir}: {', '.join(pretrained.params)} from {options.checkpoint}")
    if fresh:
        print(f"fresh: {', '.join(fresh)}")
    if pretrained.unread:
        print(f"kept for an export, not read: {len(pretrained.unread)} tensors")
    if BLOCK_EMBEDDINGS in pretrained.unread and corpus is None:
        print(
            f"to answer from its own blocks, prepare {folder / BLOCK_RECORDS} with --tokenizer "
            f"{options.workdir}, and import it into a new folder with --corpus"
        )
    if pretrained.vocabulary is None:
        print("no vocab.txt: prepare the corpus with the vocabulary the model was trained with")


def export(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `export`."""
    options = parse(
        Export,
        arguments,
        prog=prog,
        examples="""
        realm_jax export runs/minilm --out minilm_again
        realm_jax export runs/realm --out exported/scorer --architecture RealmScorer
        realm_jax export runs/qa --out exported/open_qa --architecture RealmForOpenQA
        """,
    )
    from realm_jax.config import Config, from_dict
    from realm_jax.runs.imported import export_run
    from realm_jax.text.tokenizer import VOCABULARY
    from realm_jax.train.checkpoint import Checkpoints

    vocabulary = options.run / VOCABULARY
    embeddings = None
    corpus = None
    if options.architecture == "RealmForOpenQA":
        from realm_jax.inspect.loaded import open_run

        run = open_run(options.run, corpus=options.corpus, step=options.step)
        embeddings, config, params = run.version.embeddings, run.config, run.params
        corpus, vocabulary = run.corpus.path, run.corpus.path / VOCABULARY
    else:
        checkpoints = Checkpoints(options.run)
        config = from_dict(Config, checkpoints.record(step=options.step)["config"])
        params = checkpoints.restore_params(step=options.step)
        for place in (options.corpus, Path(config.corpus) if config.corpus else None):
            if not vocabulary.is_file() and place is not None:
                vocabulary = place / VOCABULARY
            if corpus is None and place is not None and place.is_dir():
                corpus = place
    export_run(
        params,
        config,
        options.out,
        architecture=options.architecture,
        sidecar=options.run,
        vocabulary=vocabulary if vocabulary.is_file() else None,
        block_embeddings=embeddings,
        corpus=corpus,
    )
    print(f"{options.out}: {options.architecture or 'the layout it was imported in'}")
