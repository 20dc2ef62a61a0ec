"""The refresher's place in a run: asked after every step, its versions adopted, measured, pruned."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.index.store import prune
from realm_jax.refresh.refresher import Refresher
from realm_jax.refresh.staleness import embedding_drift, top_k_overlap
from realm_jax.runs.live_index import IndexVersion, LiveIndex
from realm_jax.train.state import Metrics, TrainState
from realm_jax.types import Params


class RefreshHook:
    """Refresh the live index between steps.

    Args:
      refresher: builds new versions.
      live: the index in use.
      tower: name of the parameters that embed blocks.
      root: folder of the versions.
      probe: embeds the fixed probe set with all parameters, float32 `[B, D]`.
      probe_k: results compared for each probe.
      keep_checkpoints: versions of this many checkpoints are kept.
    """

    def __init__(
        self,
        refresher: Refresher[IndexVersion],
        live: LiveIndex,
        *,
        tower: str,
        root: Path,
        probe: Callable[[Params], np.ndarray],
        probe_k: int,
        keep_checkpoints: int,
    ):
        self._refresher, self._live, self._tower, self._root = refresher, live, tower, root
        self._probe, self._probe_k = probe, probe_k
        self._saved = deque([live.current.version], maxlen=keep_checkpoints + 1)

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Adopt a new version if there is one, and say what using the old one had cost."""
        del metrics
        adopted = self._refresher.after_step(step, {self._tower: state.params[self._tower]})
        if adopted is None:
            return
        old, new = self._live.current, adopted.value
        probes = self._probe(state.params)
        k = min(self._probe_k, len(new.embeddings))
        stale, fresh = (version.index.search(probes, k).block_ids for version in (old, new))
        changes = {
            "probe_overlap": top_k_overlap(stale, fresh),
            "embedding_drift": embedding_drift(old.embeddings, new.embeddings),
        }
        self._live.adopt(new, seconds=adopted.seconds, changes=changes)
        prune(self._root, keep={*self._saved, new.version})

    def values(self, step: int) -> dict[str, float]:
        """Return what is logged."""
        return {**self._live.values(step), "refreshes_skipped": self._refresher.skipped}

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint says of the index; the version it names is kept."""
        pending = self._refresher.pending()
        self._saved.append(self._live.current.version)
        return {
            "index_version": self._live.current.version,
            "index_adopted": self._live.adopted,
            "pending_step": pending.step if pending else None,
        }

    def pending(self) -> Params | None:
        """Return the snapshot of the refresh in flight."""
        snapshot = self._refresher.pending()
        return snapshot.params if snapshot else None
