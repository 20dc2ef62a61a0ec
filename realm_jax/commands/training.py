"""ict, read, pretrain, finetune: one experiment, values overridden by dotted name."""

import argparse
import importlib
import json
import runpy
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from tyro.conf import arg

from realm_jax.commands.hosts import Hosts, joined
from realm_jax.commands.parsing import OptionalInt, OptionalPath, parse
from realm_jax.commands.smoke import TEXTS, shrink, write_texts
from realm_jax.config import CONFIG_FILE, Config, from_dict, from_json, to_dict
from realm_jax.errors import ConfigError, RealmError

Options = TypeVar("Options", bound="Ict")


@dataclass(frozen=True)
class Ict:
    """Warm the retriever up by the inverse cloze task: find the block a sentence was cut from.

    Needs --corpus. Of the phases' options below, ict.* are those of this one. The run folder gets
    checkpoints/, config.json (every value), metrics.jsonl and tensorboard/. Ctrl-C saves; the same command
    resumes.
    """

    workdir: Path  # folder of the run; a run that is there is resumed
    # Python file whose config() returns a Config (default: the values of --start-from, if any)
    experiment: OptionalPath = None
    # try the experiment: a few steps of a tiny model on texts of its own, made in WORKDIR/smoke
    smoke: bool = False
    # folder of a run, or of an import, to take parameters from (default: fresh ones)
    start_from: OptionalPath = None
    # folder of a run, or of an import, to take encoder and reader from instead
    encoder_from: OptionalPath = None
    # stop when this many steps are done, schedule unchanged; resume later (default: run to the end)
    stop_after: OptionalInt = None
    trace_steps: int = 0  # record this many steps with the profiler, in WORKDIR/trace
    hosts: Annotated[Hosts, arg(name="")] = field(default_factory=Hosts)
    config: Annotated[Config, arg(name="")] = field(default_factory=Config)


@dataclass(frozen=True)
class Read(Ict):
    """Warm the knowledge-augmented encoder up: fill in masked facts that only a retrieved block tells.

    Facts are swapped for others of their kind, in text and blocks alike, so that knowing them does not help.
    Starts from a run of ict. Of the phases' options below, read.* are those of this one, with index.*. The
    run folder gets checkpoints/, index/, config.json (every value), metrics.jsonl and tensorboard/. Ctrl-C
    saves; the same command resumes.
    """


@dataclass(frozen=True)
class Pretrain(Ict):
    """Pre-train retriever and encoder together on masked text, the index refreshed meanwhile (REALM).

    Starts from a run of read, or of ict. Of the phases' options below, realm.* are those of this one, with
    index.* and refresh.*. The run folder gets checkpoints/, index/, config.json (every value),
    metrics.jsonl and tensorboard/. Ctrl-C saves; the same command resumes.
    """


@dataclass(frozen=True)
class Finetune(Ict):
    """Fine-tune span reader and query embedder on questions with answers, against a fixed index.

    Needs --train-questions, JSON lines with "question" and "answers" (a list of texts); answers are learned
    as spans of the blocks found. With --qa.end-to-end the block embedder moves too, and the index is
    refreshed; with --qa.retriever bm25 the reader alone is trained. Starts from a run of pretrain. Of the
    phases' options below, qa.* are those of this one, with index.*. The run folder gets checkpoints/, index/,
    config.json (every value), metrics.jsonl and tensorboard/. Ctrl-C saves; the same command resumes.
    """


def ict(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `ict`."""
    options = parse_training(
        Ict,
        arguments,
        prog=prog,
        examples="""
        realm_jax ict --workdir runs/ict --corpus corpora/wiki --ict.steps 3000 --ict.batch-size 64
        realm_jax ict --workdir runs/ict --experiment experiments/wiki_nq_mini.py --seed 1
        realm_jax ict --workdir runs/try/ict --experiment experiments/ict_wiki.py --smoke
        """,
    )
    _run(options, "realm_jax.runs.ict", "run_ict")


def read(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `read`."""
    options = parse_training(
        Read,
        arguments,
        prog=prog,
        examples="""
        realm_jax read --workdir runs/read --start-from runs/ict
        realm_jax read --workdir runs/read --start-from runs/ict --read.steps 2000
        """,
    )
    _run(options, "realm_jax.runs.realm", "run_realm", phase_name="read")


def pretrain(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `pretrain`."""
    options = parse_training(
        Pretrain,
        arguments,
        prog=prog,
        examples="""
        realm_jax pretrain --workdir runs/realm --start-from runs/read
        realm_jax pretrain --workdir runs/realm --start-from runs/read --realm.steps 700 --refresh.every 25
        realm_jax pretrain --workdir runs/r --start-from runs/read --refresh.adoption at_lag --refresh.lag 20
        realm_jax pretrain --workdir runs/try/realm --experiment experiments/realm_wiki.py --smoke
        """,
    )
    _run(options, "realm_jax.runs.realm", "run_realm", phase_name="realm")


def finetune(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `finetune`."""
    options = parse_training(
        Finetune,
        arguments,
        prog=prog,
        examples="""
        realm_jax finetune --workdir runs/qa --start-from runs/realm --train-questions qa_train.jsonl
        realm_jax finetune --workdir runs/orqa --start-from runs/ict --qa.loss orqa --qa.beam 5000
        realm_jax finetune --workdir runs/sparse --start-from runs/realm --qa.retriever bm25
        """,
    )
    _run(options, "realm_jax.runs.qa", "run_qa")


def parse_training(kind: type[Options], arguments: Sequence[str], *, prog: str, examples: str) -> Options:
    """Read a training command; the values that are not given come from the experiment or the run before.

    Raises:
      ConfigError: the experiment cannot be loaded.
      SystemExit: help was asked for (0), or an argument is wrong (2).
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--experiment", type=Path)
    first.add_argument("--start-from", "--start_from", type=Path)
    first.add_argument("--workdir", type=Path, default=Path())
    first.add_argument("--smoke", action=argparse.BooleanOptionalAction, default=False)
    known, _ = first.parse_known_args([word for word in arguments if word not in ("-h", "--help")])
    base = base_config(known.experiment, known.start_from)
    if known.smoke:
        base = shrink(base or Config(), folder=known.workdir / TEXTS)
    default = None
    if base is not None:
        import tyro

        default = kind(workdir=tyro.MISSING, config=base)
    return parse(kind, arguments, prog=prog, examples=examples, default=default)


def base_config(experiment: Path | None, start_from: Path | None) -> Config | None:
    """Choose the values to start from: the experiment's, else those of the run before, else None.

    Raises:
      ConfigError: the experiment is no Python file whose `config()` returns a Config, or there is no run to
        start from.
    """
    if experiment is not None:
        return load_experiment(experiment)
    if start_from is None:
        return None
    if not (start_from / CONFIG_FILE).is_file():
        raise ConfigError(
            f"--start-from names the folder of a run, which holds a {CONFIG_FILE}",
            got=str(start_from),
            remedy="Check the path.",
        )
    try:
        return from_json((start_from / CONFIG_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"the {CONFIG_FILE} of a run is JSON",
            got=f"{start_from / CONFIG_FILE} ({error})",
            remedy="Give an experiment with --experiment, or another run.",
        ) from error


def load_experiment(path: Path) -> Config:
    """Load an experiment file.

    Raises:
      ConfigError: it is no Python file whose `config()` returns a Config.
    """
    if not path.is_file():
        raise ConfigError("an experiment is a Python file", got=str(path), remedy="Check the path.")
    try:
        make = runpy.run_path(str(path)).get("config")
        made = make() if callable(make) else None
    except RealmError:
        raise
    except Exception as error:  # whatever a file of somebody else may raise
        at = error if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            "an experiment file runs, and its config() returns a Config",
            got=f"{type(error).__name__}: {error} ({at.filename}, line {at.lineno})",
            remedy="Correct it; the files in experiments/ are examples.",
        ) from error
    if not isinstance(made, Config):
        raise ConfigError(
            "an experiment has a function config() that returns a Config",
            got=f"{made!r} from {path}",
            remedy="See the files in experiments/.",
        )
    return from_dict(Config, to_dict(made))  # which checks the types, too


def changes(value: Any, default: Any, *, where: str = "") -> list[tuple[str, Any]]:
    """List the values of a config that differ from another, by dotted name."""
    found: list[tuple[str, Any]] = []
    for one in fields(value):
        name = f"{where}{one.name}"
        mine, other = getattr(value, one.name), getattr(default, one.name)
        if is_dataclass(mine):
            found += changes(mine, other, where=f"{name}.")
        elif mine != other:
            found.append((name, mine))
    return found


def _run(options: Ict, module: str, function: str, **settings: Any) -> None:
    with joined(options.hosts):
        # Imported here: what the modules of a run make when they are imported lies on a device.
        _train(options, getattr(importlib.import_module(module), function), **settings)


def _train(options: Ict, run: Callable[..., dict[str, float]], **settings: Any) -> None:
    from realm_jax.hosts.meeting import is_first, next_meeting
    from realm_jax.runs.lock import one_trainer

    with ExitStack() as held:

        def hold() -> None:
            if is_first():
                held.enter_context(one_trainer(options.workdir))

        next_meeting("lock").each(hold)
        _train_alone(options, run, **settings)


def _train_alone(options: Ict, run: Callable[..., dict[str, float]], **settings: Any) -> None:
    from realm_jax.hosts.meeting import is_first, next_meeting

    before = [folder for folder in (options.start_from, options.encoder_from) if folder is not None]
    if options.smoke:
        next_meeting("texts").each(lambda: write_texts(options.workdir / TEXTS) if is_first() else None)
    if before and options.config.corpus:
        from realm_jax.data.corpus import Corpus
        from realm_jax.runs.setup import check_run_vocabulary

        for folder in before:
            check_run_vocabulary(folder, Corpus.open(options.config.corpus))
    if is_first():
        print(f"{options.workdir}: values that differ from the defaults (all of them: {CONFIG_FILE})")
        for name, value in changes(options.config, Config()):
            print(f"  {name} = {json.dumps(value)}")
    last = run(
        options.config,
        options.workdir,
        start_from=options.start_from,
        encoder_from=options.encoder_from,
        stop_at=options.stop_after,
        trace_steps=options.trace_steps,
        **settings,
    )
    if is_first() and last:
        print(f"{options.workdir}: " + " ".join(f"{name}={value:.4g}" for name, value in last.items()))
