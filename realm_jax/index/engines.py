"""The engines by name: how each is built, saved and loaded."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realm_jax.index.exact import ExactIndex
from realm_jax.index.protocol import Index
from realm_jax.index.scann import build_scann, load_scann, settings_for


class Engine(NamedTuple):
    """One way to search."""

    build: Callable[[np.ndarray], Index]  # float32 [N, D] -> index
    save: Callable[[Any, Path], None]  # what is needed beside the embeddings
    load: Callable[[np.ndarray, Path], Index]
    settings: Callable[[int], dict[str, Any]]  # N -> what the manifest says


ENGINES: dict[str, Engine] = {
    "exact": Engine(
        build=ExactIndex,
        save=lambda index, folder: None,
        load=lambda embeddings, folder: ExactIndex(embeddings),
        settings=lambda count: {},
    ),
    "scann": Engine(
        build=build_scann,
        save=lambda index, folder: index.save(folder),
        load=lambda embeddings, folder: load_scann(folder, len(embeddings)),
        settings=lambda count: asdict(settings_for(count)),
    ),
}
