"""An index over several hosts in one process: each host is a thread."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from realm_jax.index.engines import Engine
from realm_jax.index.protocol import HERE, Index
from realm_jax.index.split import SplitIndex, shares_of
from realm_jax.types import Search

WAIT = 60.0  # seconds; only a broken test ever waits this long


class HostsIndex:
    """Every host asks the same questions in another order, and gets its own answers.

    Args:
      embeddings: float32 `[N, D]`.
      build: of each host's rows.
      processes: hosts.
    """

    def __init__(self, embeddings: np.ndarray, build: Callable[[np.ndarray], Index], *, processes: int):
        self._brought: list[np.ndarray] = [np.zeros(0)] * processes
        self._barrier = threading.Barrier(processes, timeout=WAIT)
        self.hosts = [
            SplitIndex(
                build(embeddings[share.first : share.stop]) if share.stop > share.first else None,
                share,
                len(embeddings),
                process=process,
                gather=partial(self._gather, process),
            )
            for process, share in enumerate(shares_of(len(embeddings), processes))
        ]

    def __len__(self) -> int:
        return len(self.hosts[0])

    def search(self, queries: np.ndarray, k: int) -> Search:
        with ThreadPoolExecutor(len(self.hosts)) as threads:
            asked = [
                threads.submit(host.search, np.roll(queries, turn, axis=0), k)
                for turn, host in enumerate(self.hosts)
            ]
        answers = [
            [np.roll(side, -turn, axis=0) for side in (found.result().scores, found.result().block_ids)]
            for turn, found in enumerate(asked)
        ]
        for scores, block_ids in answers[1:]:
            np.testing.assert_array_equal(block_ids, answers[0][1])
            # A product on the host is rounded by where in the batch its row stands.
            np.testing.assert_allclose(scores, answers[0][0], rtol=1e-5)
        return Search(*answers[-1])

    def _gather(self, process: int, array: np.ndarray) -> np.ndarray:
        self._brought[process] = array
        self._barrier.wait()
        everything = np.stack(self._brought)
        self._barrier.wait()
        return everything


def on_hosts(engine: Engine, *, processes: int) -> Engine:
    """Make an engine of several hosts of one; what they have published is built anew when it is opened."""

    def build(embeddings, storage=HERE):
        return HostsIndex(embeddings, partial(engine.build, storage=storage), processes=processes)

    return Engine(
        build=build,
        save=lambda index, folder: None,
        load=lambda embeddings, folder, storage=HERE: build(embeddings, storage),
        settings=engine.settings,
    )
