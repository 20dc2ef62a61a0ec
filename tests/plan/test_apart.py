"""What a process of its own returns, raises, and takes with it."""

import os
import signal

import pytest

from realm_jax.errors import CompilerError, ConfigError
from realm_jax.plan.apart import in_a_process


def work(kind: str) -> tuple[int, str]:
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "error":
        raise ConfigError("a rule", got="another", remedy="Mend it.")
    return os.getpid(), kind


def test_the_result_comes_from_another_process():
    process, kind = in_a_process(work, "result")
    assert process != os.getpid() and kind == "result"


def test_what_it_raises_is_raised_here():
    with pytest.raises(ConfigError, match="a rule"):
        in_a_process(work, "error")


def test_a_crash_is_an_error_that_says_so():
    with pytest.raises(CompilerError, match="a crash of its process"):
        in_a_process(work, "crash")
