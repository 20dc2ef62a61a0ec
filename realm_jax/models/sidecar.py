"""Keep beside a run what an export of its imported model needs: the layout and the unread tensors."""

import dataclasses
import json
from pathlib import Path

from safetensors.numpy import load_file

from realm_jax.models.layout import Place
from realm_jax.models.pretrained import Source, Tensors
from realm_jax.models.public_config import read_json
from realm_jax.models.weights_file import write_tensors

LAYOUT, UNREAD_FILE = "layout.json", "unread.safetensors"


def save_sidecar(folder: str | Path, source: Source, unread: Tensors) -> None:
    """Write the layout and the unread tensors of an import.

    Args:
      folder: to write into; created where missing.
      source: `Pretrained.source`.
      unread: `Pretrained.unread`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / UNREAD_FILE, unread)
    (folder / LAYOUT).write_text(json.dumps(dataclasses.asdict(source), indent=1))


def load_sidecar(folder: str | Path) -> tuple[Source, Tensors]:
    """Read what `save_sidecar` wrote.

    Args:
      folder: the same.

    Raises:
      CheckpointError: the folder holds no layout.
    """
    folder = Path(folder)
    stored = read_json(folder / LAYOUT)
    places = {
        part: Place(root=place["root"], base=place["base"], groups=tuple(place["groups"]))
        for part, place in stored.pop("places").items()
    }
    stored.pop("lowercase", None)  # as imports wrote it before the run's own files said it
    return Source(places=places, **stored), load_file(folder / UNREAD_FILE)
