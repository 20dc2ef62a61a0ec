"""A resumable stream of batches on Grain: element i is a function of (seed, i)."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import grain
import numpy as np

from realm_jax.errors import CheckpointError, ConfigError

ENDLESS = 1 << 48  # examples; Grain's own endless repeat overflows with batches of one

Example = TypeVar("Example")
Batch = TypeVar("Batch")


class Stream(Iterator[Batch], Generic[Batch]):
    """An endless iterator of batches whose position is a small value.

    `dropped` says how many candidates were left out and why, `examples` how many there are an epoch.
    """

    def __init__(
        self,
        dataset: "grain.IterDataset[Batch]",
        *,
        examples: int,
        dropped: Mapping[str, int],
        recipe: Mapping[str, Any],
    ):
        self.examples, self.dropped = examples, dict(dropped)
        self._iterator = iter(dataset)
        text = json.dumps(dict(recipe), sort_keys=True)
        self._recipe = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __next__(self) -> Batch:
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """Return the position: what JSON can hold."""
        return {"recipe": self._recipe, "position": self._iterator.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `get_state` returned, of this stream or one built the same way.

        Raises:
          CheckpointError: it comes from a stream of other data or settings.
        """
        if state.get("recipe") != self._recipe:
            raise CheckpointError(
                "A stream resumes where one of the same data and settings stopped",
                got=f"recipe {state.get('recipe')} instead of {self._recipe}",
                remedy="Resume with the corpus, batch size, lengths and seed of then.",
            )
        self._iterator.set_state(dict(state["position"]))


def build_stream(
    count: int,
    example: Callable[[int, np.random.Generator], Example],
    batch: Callable[[Sequence[Example]], Batch],
    *,
    batch_size: int,
    rows: np.ndarray | None = None,
    seed: int,
    dropped: Mapping[str, int],
    recipe: Mapping[str, Any],
) -> Stream[Batch]:
    """Shuffle, make examples, and batch them without end; each epoch in another order.

    Of a batch that several hosts share, each makes its own rows; positions are those of whole batches, so
    that a run resumes on another number of hosts.

    Args:
      count: examples an epoch.
      example: index in the epoch and a generator of its own -> example.
      batch: examples -> batch.
      batch_size: B. Batches run on across epochs, so all are full.
      rows: int `[b]`, which of the B rows are made; None: all.
      seed: of order and choices.
      dropped: why candidates are not among the examples.
      recipe: what the stream is made of, beside batch size and seed; compared on resuming.

    Raises:
      ConfigError: there is no example.
    """
    if count == 0:
        raise ConfigError(
            "A stream needs at least one example",
            got=f"none; left out: {dict(dropped)}",
            remedy="Use another masker, raise the lengths, or prepare more text.",
        )
    if batch_size < 1:
        raise ConfigError("batch_size is at least 1", got=batch_size, remedy="Raise it.")
    examples = (
        grain.MapDataset.range(count)
        .seed(seed)
        .shuffle()
        .repeat(max(1, ENDLESS // count))
        .random_map(example)
    )
    places = range(batch_size) if rows is None else rows.tolist()
    dataset = (
        grain.MapDataset.range(len(examples) // batch_size)
        .map(lambda number: batch([examples[number * batch_size + place] for place in places]))
        # No reading threads: the data are in memory, and threads would only fight for the interpreter.
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    )
    return Stream(
        dataset,
        examples=count,
        dropped=dropped,
        recipe={**recipe, "count": count, "batch_size": batch_size, "seed": seed},
    )
