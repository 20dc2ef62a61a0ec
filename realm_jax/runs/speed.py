"""How fast a run is: model FLOP/s, share of the devices' peak, and what the host's seconds are spent on."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from realm_jax.chips import peak_flops
from realm_jax.config import Config
from realm_jax.models.build import Models
from realm_jax.models.flops import TRAINED, embedder_flops, encoder_flops, reader_flops, span_flops
from realm_jax.runs.setup import candidates_read


def peak_of_run(mesh: jax.sharding.Mesh | None) -> float:
    """Add up the peaks of the devices of a run; 0 where they are not known."""
    devices = jax.devices()[:1] if mesh is None else mesh.devices.flat
    return sum(peak_flops(device.device_kind) for device in devices)


def step_flops(config: Config, phase: str, models: Models) -> int:
    """Count the model's work in a training step; recomputation is none.

    Args:
      config: the experiment.
      phase: `ict`, `read`, `realm` or `qa`.
      models: its models.

    Returns:
      FLOPs of the losses and their gradients, over rows of the longest length that `shapes` allows.
    """
    shapes, settings = config.shapes, getattr(config, phase)
    rows = settings.batch_size
    queries = embedder_flops(models.embedder, rows=rows, length=shapes.query_length)
    if phase == "ict":
        return TRAINED * (queries + embedder_flops(models.embedder, rows=rows, length=shapes.block_length))
    read = rows * candidates_read(config, phase)
    blocks = embedder_flops(models.embedder, rows=read, length=shapes.block_length)
    if phase == "qa":
        retriever = 0 if settings.retriever == "bm25" else queries + blocks * settings.end_to_end
        return TRAINED * (retriever + reader_flops(models.reader, rows=read, length=shapes.joint_length))
    spans = settings.span_weight > 0
    words = encoder_flops(
        models.encoder, rows=read, length=shapes.joint_length, masks=shapes.max_masks, spans=spans
    )
    if spans:
        words += span_flops(models.reader, rows=read, length=shapes.joint_length)
    if settings.weights == "uniform":
        return TRAINED * words  # scores that nothing depends on are not computed
    return TRAINED * (queries + blocks + words)


class Spent:
    """Seconds by what they were spent on.

    Args:
      clock: seconds now.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter):
        self._clock, self._lock = clock, threading.Lock()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Add what passes inside to a name."""
        start = self._clock()
        try:
            yield
        finally:
            with self._lock:  # the index may be searched on a thread of its own
                self._seconds[name] += self._clock() - start

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Add the time of every call of a function to a name."""

        def call(*arguments: Any) -> Any:
            with self.on(name):
                return function(*arguments)

        return call

    def waiting(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the items; the wait for each is added to a name."""
        while True:
            with self.on(name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def take(self) -> dict[str, float]:
        """Return the sums since they were last taken."""
        with self._lock:
            taken, self._seconds = dict(self._seconds), defaultdict(float)
        return taken
