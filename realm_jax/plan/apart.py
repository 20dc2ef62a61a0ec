"""Call a function in a process of its own: a compiler that crashes takes its process with it."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from realm_jax.errors import CompilerError

Result = TypeVar("Result")


def in_a_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a new process, and wait for it.

    Args:
      function: of a module, importable by its name.
      arguments: picklable.

    Returns:
      Its result, picklable too.

    Raises:
      CompilerError: the process was ended, by itself or from outside.
      Exception: what the function raised.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise CompilerError(
                "the compiler ends with a program or an error",
                got="a crash of its process; what it printed stands above",
                remedy="Try other microbatches or rematerialisation; without --compile the plan is counted.",
            ) from error
