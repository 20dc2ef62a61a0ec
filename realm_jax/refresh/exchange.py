"""A folder through which trainer and worker process talk, on a disk or in an object store.

    request.json               what the trainer asks for; taken back by deleting it
    snapshot-ID/               the parameters of that request, complete before the request is there; and what
                               the processes of a worker have embedded, each its share
    answer.json                what became of it
    versions/vSTEP/            index versions that one side has put there for the other
    worker.json                rewritten while the worker lives

One request at a time. An object store cannot rename, and what it lists may be old: so every file is read by a
name that is known, the file that speaks of others is written after them, and JSON that is cut short counts as
not there yet.
"""

import json
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import safetensors.numpy
from etils import epath

from realm_jax.errors import MissingExtra
from realm_jax.index.store import EMBEDDINGS, place_version, version_folder
from realm_jax.types import Params

REQUEST, ANSWER, SIGN_OF_LIFE = "request.json", "answer.json", "worker.json"
PARAMS = "params.safetensors"
CHUNK = 1 << 26  # bytes copied at once


@dataclass(frozen=True)
class Request:
    """A refresh that the trainer asks for."""

    name: str  # no two have the same
    values: dict[str, Any]  # JSON: what to embed, and how


class Exchange:
    """One such folder.

    Args:
      folder: a path, or a URL such as gs://bucket/run.

    Raises:
      MissingExtra: what is needed for such a URL is not installed.
    """

    def __init__(self, folder: str | Path):
        self.folder = epath.Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except ImportError as error:
            raise MissingExtra(
                "an object store needs a package of its own: gcsfs for gs://, s3fs for s3://",
                got=f"{error} for {folder}",
                remedy="Install it, or name a folder that both sides can reach.",
            ) from error

    # What the trainer does.

    def ask(self, params: Params, values: dict[str, Any]) -> Request:
        """Ask for a refresh; the one before, if any, is taken back.

        Args:
          params: parameters to embed with, nested dicts.
          values: JSON values for the worker.
        """
        self.clear()
        request = Request(uuid.uuid4().hex, values)
        tensors = flax.traverse_util.flatten_dict(jax.device_get(params), sep="/")
        folder = self._snapshot(request)
        folder.mkdir(parents=True, exist_ok=True)
        packed = safetensors.numpy.save({name: np.ascontiguousarray(t) for name, t in tensors.items()})
        (folder / PARAMS).write_bytes(packed)
        self._write(REQUEST, {"name": request.name, "values": values})
        return request

    def answer(self, request: Request) -> dict[str, Any] | None:
        """Return what the worker answered, None if it has not."""
        found = self._read(ANSWER)
        return found["values"] if found is not None and found["name"] == request.name else None

    def sign_of_life(self) -> dict[str, Any] | None:
        """Return what a living worker changes again and again."""
        return self._read(SIGN_OF_LIFE)

    def clear(self) -> None:
        """Take back what is asked for, and what was answered: a worker that is at it stops."""
        request = self._read(REQUEST)
        (self.folder / REQUEST).unlink(missing_ok=True)
        (self.folder / ANSWER).unlink(missing_ok=True)
        if request is not None:
            self._snapshot(Request(request["name"], {})).rmtree(missing_ok=True)

    def take_version(self, version: int, files: Iterable[str], root: Path) -> None:
        """Publish in a folder of versions what lies here."""
        source = self._version(version)

        def write(folder: Path) -> None:
            for name in files:
                _copy(source / name, epath.Path(folder) / name)

        place_version(root, version, write)

    def drop_version(self, version: int) -> None:
        """Delete a version from here."""
        self._version(version).rmtree(missing_ok=True)

    def drop_versions(self) -> None:
        """Delete all versions from here."""
        self._versions().rmtree(missing_ok=True)

    # What the worker does.

    def request(self) -> Request | None:
        """Return what is asked for, None if nothing is or it is answered already."""
        found = self._read(REQUEST)
        if found is None:
            return None
        request = Request(found["name"], found["values"])
        return None if self.answer(request) is not None else request

    def is_wanted(self, request: Request) -> bool:
        """Say whether a request still stands."""
        found = self._read(REQUEST)
        return found is not None and found["name"] == request.name

    def params(self, request: Request) -> Params:
        """Return the parameters of a request, NumPy arrays."""
        tensors = safetensors.numpy.load((self._snapshot(request) / PARAMS).read_bytes())
        return flax.traverse_util.unflatten_dict(tensors, sep="/")

    def put_rows(self, request: Request, process: int, rows: np.ndarray) -> None:
        """Put what a process of the worker has embedded where its first one finds it, float32 `[n, D]`."""
        with self._rows(request, process).open("wb") as file:
            np.save(file, rows)

    def rows(self, request: Request, process: int) -> np.ndarray:
        """Return what a process of the worker has embedded."""
        with self._rows(request, process).open("rb") as file:
            return np.load(file, allow_pickle=False)

    def embeddings(self, version: int) -> np.ndarray:
        """Return the embeddings of a version that lies here, float32 `[N, D]`."""
        with (self._version(version) / EMBEDDINGS).open("rb") as file:
            return np.load(file, allow_pickle=False)

    def reply(self, request: Request, values: dict[str, Any]) -> None:
        """Answer a request."""
        self._write(ANSWER, {"name": request.name, "values": values})

    def show_life(self, values: dict[str, Any]) -> None:
        """Say that the worker lives; each time with other values."""
        self._write(SIGN_OF_LIFE, values)

    # What both do.

    def put_version(self, version: int, root: Path) -> list[str]:
        """Put a published version here; returns the names of its files, for the other side to fetch."""
        source, target = version_folder(root, version), self._version(version)
        target.mkdir(parents=True, exist_ok=True)
        files = sorted(path.name for path in source.iterdir())
        for name in files:
            _copy(epath.Path(source / name), target / name)
        return files

    def _snapshot(self, request: Request) -> epath.Path:
        return self.folder / f"snapshot-{request.name}"

    def _rows(self, request: Request, process: int) -> epath.Path:
        return self._snapshot(request) / f"rows-{process}.npy"

    def _version(self, version: int) -> epath.Path:
        return self._versions() / version_folder(Path(), version).name

    def _versions(self) -> epath.Path:
        return self.folder / "versions"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # not there, or not all of it yet
            return None

    def _write(self, name: str, values: dict[str, Any]) -> None:
        (self.folder / name).write_text(json.dumps(values), encoding="utf-8")


def _copy(source: epath.Path, target: epath.Path) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, CHUNK)
