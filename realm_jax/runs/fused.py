"""A phase that finds its candidates inside the compiled step (`train/fused.py`)."""

from dataclasses import fields

from realm_jax.config import Config, RealmConfig
from realm_jax.errors import ConfigError
from realm_jax.index.exact import ExactIndex, keep_rows, layout_of
from realm_jax.index.protocol import Storage
from realm_jax.ops.topk import StoredRows
from realm_jax.runs.live_index import IndexVersion, LiveIndex
from realm_jax.train.fused import FusedStore
from realm_jax.types import Array, MaskedBatch, Params, StoredBlocks

# Settings for which the host reads the candidates' tokens, or replaces them.
ON_THE_HOST = ("swap_probability", "evidence_pool", "window_steps", "oversample", "span_weight")


class FusedInputs:
    """Hand a batch to the step with the index in use and the tokens of all blocks.

    Args:
      blocks: from `keep_blocks`.
      live: the index in use; a new version is handed to the next step.
      storage: where and how the step keeps the rows.
    """

    def __init__(self, blocks: StoredBlocks, live: LiveIndex, *, storage: Storage):
        self._blocks, self._live, self._storage = blocks, live, storage
        self._kept: tuple[IndexVersion, StoredRows] | None = None

    def begin(self, params: Params, batch: MaskedBatch) -> None:
        """Start nothing: the step embeds the texts."""
        del params, batch

    def finish(self, step: int, batch: MaskedBatch, begun: Array | None) -> tuple[FusedStore, MaskedBatch]:
        """Return what is searched, and the batch."""
        del step, begun
        current = self._live.current
        if self._kept is None or self._kept[0] is not current:
            self._kept = current, rows_of(current, self._storage)
        return FusedStore(index=self._kept[1], blocks=self._blocks), batch


def rows_of(version: IndexVersion, storage: Storage) -> StoredRows:
    """Return the rows of a version as a step searches them.

    They are those of its index, or, where that keeps them otherwise, laid out from the embeddings.
    """
    if isinstance(version.index, ExactIndex):
        return version.index.rows
    devices = 1 if storage.mesh is None else storage.mesh.size
    total = layout_of(len(version.embeddings), devices=devices).total
    return keep_rows(version.embeddings, total=total, storage=storage)


def is_fused(config: Config, phase: str) -> bool:
    """Say whether a phase finds its candidates inside the step."""
    return config.index.engine == "fused" and phase in ("read", "realm")


def check_fused(settings: RealmConfig, *, phase_name: str) -> None:
    """Refuse what is done to candidates on the host, where a fused step never has them.

    Raises:
      ConfigError: names the settings.
    """
    off = {field.name: field.default for field in fields(RealmConfig) if field.name in ON_THE_HOST}
    asked = {name: getattr(settings, name) for name in off if getattr(settings, name) != off[name]}
    if asked:
        unset = ", ".join(f"{phase_name}.{name} {off[name]}" for name in asked)
        raise ConfigError(
            "with index.engine fused the host never sees the candidates",
            got=", ".join(f"{phase_name}.{name} {value}" for name, value in asked.items()),
            remedy=f"Train this phase with --index.engine exact, or with {unset}.",
        )
