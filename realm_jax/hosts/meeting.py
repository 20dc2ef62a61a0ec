"""How processes tell one another things, and do things together.

`agree` goes through the devices: all ask on their main threads. A `Meeting` goes through JAX's coordination
service, and may take place on a thread beside training.
"""

import itertools
import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src.distributed import global_state  # the coordination service has no public name yet
from jax.experimental.multihost_utils import process_allgather

from realm_jax.errors import HostsError, IndexFault
from realm_jax.mesh import in_order

Value = TypeVar("Value")

# A process that is lost ends the others by itself, so nobody waits this long.
MEETING_MILLISECONDS = 7 * 24 * 3600 * 1000


def is_first() -> bool:
    """Say whether this process writes what is written once: logs, config, manifests."""
    return jax.process_index() == 0


def agree(done: bool) -> bool:
    """Say whether it is done on every process; asked by all, on their main threads."""
    return done if jax.process_count() == 1 else bool(process_allgather(np.int32(done)).all())


_NUMBERS = itertools.count()


def next_meeting(name: str) -> "Meeting":
    """Convene a meeting of its own; all processes do so in the same order, on their main threads."""
    return Meeting(f"{next(_NUMBERS)}-{name}")


def start_together(program: Any, name: str) -> Callable[..., Any]:
    """Start a program in the order of all, and on no process before all have compiled it.

    A program that exchanges data waits for the other processes; on CPUs at first for half a minute at most,
    and to compile may take one of them longer than another.

    Args:
      program: a jitted function of several devices.
      name: of the program.
    """
    if jax.process_count() == 1:
        return in_order(program)
    meeting = next_meeting(name)
    compiled: dict[Any, Callable[..., Any]] = {}

    def start(*arguments: Any) -> Any:
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(arguments))
        if shapes not in compiled:
            compiled[shapes] = in_order(program.lower(*arguments).compile())
            meeting.exchange(None)
        return compiled[shapes](*arguments)

    return start


class Meeting:
    """Where the processes of a run meet outside their programs, on one thread each; no device is needed.

    Args:
      name: of the meeting; the same everywhere, and no other meeting's.
    """

    def __init__(self, name: str):
        self._name, self._rounds, self._before = name, itertools.count(), ""

    def exchange(self, value: Any) -> list[Any]:
        """Wait for all; return what each has brought, by its number.

        Args:
          value: what JSON can hold.
        """
        if jax.process_count() == 1:
            return [value]
        client, me = global_state.client, jax.process_index()
        assert client is not None  # there are several processes
        place = f"realm_jax/{self._name}/{next(self._rounds)}"
        client.key_value_set(f"{place}/{me}", json.dumps(value))
        texts = [
            client.blocking_key_value_get(f"{place}/{process}", MEETING_MILLISECONDS)
            for process in range(jax.process_count())
        ]
        if self._before:  # all have come here, so all have read what was said before
            client.key_value_delete(self._before)
        self._before = f"{place}/{me}"
        return [json.loads(text) for text in texts]

    def each(self, part: Callable[[], Value]) -> list[Value]:
        """Let every process do its part; what fails on one fails on all.

        Args:
          part: returns what JSON can hold.

        Returns:
          What each part has returned.

        Raises:
          Exception: the part's own.
          IndexFault: the part of another process failed, and would fail again.
          HostsError: the part of another process failed.
        """
        if jax.process_count() == 1:
            return [part()]
        error: Exception | None = None
        try:
            told: dict[str, Any] = {"value": part()}
        except Exception as raised:
            error = raised
            told = {"error": f"{type(raised).__name__}: {raised}", "lasting": isinstance(raised, IndexFault)}
        answers = self.exchange(told)
        if error is not None:
            raise error
        for process, answer in enumerate(answers):
            if "error" in answer:
                kind = IndexFault if answer["lasting"] else HostsError
                raise kind(
                    "what several processes do together must succeed on each",
                    got=f"on process {process} {answer['error']}",
                    remedy="Its own output says more.",
                )
        return [answer["value"] for answer in answers]
