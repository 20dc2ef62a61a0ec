"""The command line: finds the command, prints its help or its error."""

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table


class Command(NamedTuple):
    """One command; its module is imported when it is called."""

    module: str  # in realm_jax.commands
    function: str
    summary: str


# What is no fault of the program, though any file may be the one to meet it: the rule, and the remedy.
_FULL = (
    "A command has room for what it writes",
    "Free some, or choose a folder on another disk; then run it again.",
)
_CLOSED = (
    "A command may read its inputs and write to its folders",
    "Change the permissions, or choose another path.",
)
_NAMED = (
    "A path can be made or read where it is named",
    "Choose another name: a part of this one is a file, is there already, or is too long.",
)
_SMALLER = (
    "Use smaller batches, more microbatches, rematerialisation, or more devices; "
    "`realm_jax plan` says what a run needs."
)
DISK_ERRORS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _CLOSED,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.ENOTDIR: _NAMED,
    errno.EEXIST: _NAMED,
    errno.ENAMETOOLONG: _NAMED,
}
COMMANDS = {
    "vocabulary": Command("text", "vocabulary", "train a WordPiece vocabulary on texts"),
    "prepare": Command("text", "prepare", "turn texts into a prepared corpus"),
    "ict": Command("training", "ict", "warm the retriever up by the inverse cloze task"),
    "read": Command("training", "read", "warm the encoder up: teach it to read blocks"),
    "pretrain": Command("training", "pretrain", "REALM pre-training with a live index"),
    "finetune": Command("training", "finetune", "fine-tune on questions with answers"),
    "refresh": Command(
        "refreshing", "refresh", "worker process: embed a training run's corpus again and again"
    ),
    "embed": Command("using", "embed", "embed a corpus with a run's parameters: build its index"),
    "evaluate": Command("using", "evaluate", "exact match, recall@k, retrieval utility of a run"),
    "ask": Command("using", "ask", "answer questions and show where the answers came from"),
    "fill": Command("using", "fill", "fill in [MASK]s without, with each, and over all retrieved blocks"),
    "retrieve": Command("using", "retrieve", "search a corpus for any text"),
    "plan": Command("plan", "plan", "say what a run will need and cost on a slice, before it is paid for"),
    "import": Command("weights", "import_", "turn a public checkpoint into a run folder"),
    "export": Command("weights", "export", "write a run as a public checkpoint"),
}
COMPUTING = ("training", "refreshing", "using")  # modules of commands that train or embed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
      arguments: those after the program's name; None takes the process's own.

    Returns:
      0; 2 after a message on standard error: a wrong argument, a broken rule (`RealmError`), or a disk that
      is full or not to be written to; 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print_commands()
        return 0 if given else 2
    if given[0] not in COMMANDS:
        print(f"realm_jax has no command {given[0]!r}. It has {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    from realm_jax.chips import give_compiler_stack
    from realm_jax.errors import RealmError, RefreshError
    from realm_jax.heap import keep_freed_memory

    logging.getLogger("absl").setLevel(logging.ERROR)  # warns of what is meant so
    give_compiler_stack(os.environ)
    name, rest = given[0], given[1:]
    command = COMMANDS[name]
    if command.module in COMPUTING:
        keep_freed_memory(os.environ)
    module = importlib.import_module(f"realm_jax.commands.{command.module}")
    run: Callable[..., Any] = getattr(module, command.function)
    try:
        run(rest, prog=f"realm_jax {name}")
    except RealmError as error:
        if isinstance(error, RefreshError) and not isinstance(error.__cause__, RealmError | None):
            traceback.print_exception(error.__cause__)  # what went wrong in the background, and where
        print(f"realm_jax {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"realm_jax {name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (MemoryError, RuntimeError) as error:  # JAX's own is a RuntimeError
        if not isinstance(error, MemoryError) and not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        said = str(error).splitlines()[0] if str(error) else "none left"
        message = RealmError("What a command computes fits in memory", got=said, remedy=_SMALLER)
        print(f"realm_jax {name}: {message}", file=sys.stderr)
        return 2
    except OSError as error:
        known = DISK_ERRORS.get(error.errno or 0)
        if known is None:
            raise
        rule, remedy = known
        where = f"{error.filename}: " if error.filename else ""
        message = RealmError(rule, got=f"{where}{error.strerror}", remedy=remedy)
        print(f"realm_jax {name}: {message}", file=sys.stderr)
        return 2
    return 0


def print_commands() -> None:
    """Print what there is, in the order in which it is used."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, command in COMMANDS.items():
        table.add_row(f"  {name}", command.summary)
    console = Console(highlight=False)
    console.print("usage: realm_jax COMMAND [OPTIONS]\n\nREALM: train and use a retriever and its reader.\n")
    console.print(table)
    console.print("\nrealm_jax COMMAND --help says everything about a command, with examples.")


if __name__ == "__main__":
    sys.exit(main())
