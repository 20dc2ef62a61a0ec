"""The engines by name: how each is built, saved and loaded."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from realm_jax.index.approx import ApproxIndex
from realm_jax.index.exact import ExactIndex
from realm_jax.index.protocol import HERE, Index
from realm_jax.index.scann import build_scann, load_scann


class Engine(NamedTuple):
    """One way to search."""

    build: Callable[..., Index]  # (float32 [N, D], storage) -> index
    save: Callable[[Any, Path], None]  # what is needed beside the embeddings
    load: Callable[..., Index]  # (float32 [N, D], folder, storage) -> index
    settings: Callable[..., dict[str, Any]]  # (index, storage) -> what the manifest says


def on_device(kind: type[ExactIndex]) -> Engine:
    """Make the engine of an index that is nothing but its rows."""
    return Engine(
        build=kind,
        save=lambda index, folder: None,
        load=lambda embeddings, folder, storage=HERE: kind(embeddings, storage),
        settings=lambda index, storage=HERE: {"storage": storage.dtype},
    )


ENGINES: dict[str, Engine] = {
    "exact": on_device(ExactIndex),
    "approx": on_device(ApproxIndex),
    "fused": on_device(ExactIndex),  # searched inside a REALM step (train/fused.py), elsewhere as `exact`
    "scann": Engine(  # on the host, whatever the devices
        build=lambda embeddings, storage=HERE: build_scann(embeddings),
        save=lambda index, folder: index.save(folder),
        load=lambda embeddings, folder, storage=HERE: load_scann(folder, len(embeddings)),
        settings=lambda index, storage=HERE: asdict(index.settings),
    ),
}
