"""From arguments to options: tyro, with examples at the end of the help."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

Options = TypeVar("Options")

# What may be left out; the comment beside the option says what happens then.
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalText = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
OptionalBool = Annotated[bool | None, tyro.conf.arg(metavar="{True,False}", help_behavior_hint="")]


def parse(
    options: type[Options],
    arguments: Sequence[str],
    *,
    prog: str,
    examples: str,
    default: Options | None = None,
) -> Options:
    """Read the arguments of a command.

    Args:
      options: a dataclass; its docstring describes the command, the comments beside its fields the options.
      arguments: of the command.
      prog: name of the command.
      examples: shell commands, printed under the help.
      default: values to start from, instead of those of the class.

    Raises:
      SystemExit: help was asked for (0), or an argument is wrong (2).
    """
    settings: dict[str, Any] = {} if default is None else {"default": default}
    try:
        return tyro.cli(
            options,
            prog=prog,
            description=inspect.cleandoc(options.__doc__ or ""),
            args=list(arguments),
            **settings,
        )
    except SystemExit as ending:
        if not ending.code:
            sys.stdout.write(f"\nexamples:\n{_indented(examples)}\n")
        raise


def _indented(examples: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in inspect.cleandoc(examples).splitlines())
