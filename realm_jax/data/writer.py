"""The files of a prepared corpus, written aside and renamed when complete."""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from realm_jax.data.encode import EncodedChunk
from realm_jax.data.lock import REPLACED, UNFINISHED, FolderLock
from realm_jax.errors import CorpusError
from realm_jax.text.normalisation import SETTINGS
from realm_jax.text.tokenizer import VOCABULARY, Tokenizer

FORMAT = 1
MANIFEST, BAD_RECORDS = "manifest.json", "bad_records.jsonl"
# Raw arrays; their shapes and dtypes are in the manifest.
ROW_ARRAYS = ("titles", "title_lengths", "bodies", "body_lengths", "sentences", "spans", "uids")
OFFSET_ARRAYS = ("sentence_offsets", "span_offsets", "text_offsets")


class CorpusWriter:
    """Append chunks to a corpus folder that appears under its name only when it is complete.

    Use it in a `with` statement and call `finish` inside; if that does not happen, nothing is left behind.
    What a process left that was killed is removed by the next one that makes the same folder.
    """

    def __init__(self, out: Path, *, overwrite: bool):
        out = out.resolve()  # of a link the folder is replaced that it leads to
        self._out, self._overwrite, self._lock = out, overwrite, FolderLock(out)
        self._aside = self._lock.aside(UNFINISHED)
        self.scratch = self._aside / "scratch"  # a folder that goes when the corpus is finished
        self._files: dict[str, BinaryIO] = {}
        self._hashes: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, np.dtype] = {}
        self._ends = dict.fromkeys(OFFSET_ARRAYS, 0)

    def __enter__(self) -> "CorpusWriter":
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._check_name()
            shutil.rmtree(self._aside, ignore_errors=True)
            self._aside.mkdir()
        except OSError as error:
            self._lock.release()
            raise CorpusError(
                "prepare writes beside the folder it will make",
                got=f"{self._out.parent}, where it cannot ({error.strerror})",
                remedy="Choose a folder that can be written to.",
            ) from error
        except CorpusError:
            self._lock.release()
            raise
        try:
            for name in (*ROW_ARRAYS, *OFFSET_ARRAYS, "texts"):
                self._files[name] = (self._aside / f"{name}.bin").open("wb")
                self._hashes[name] = hashlib.sha256()
            for name in OFFSET_ARRAYS:
                self._append(name, np.zeros(1, np.int64))
        except OSError:
            self._undo()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo()

    def _undo(self) -> None:
        """Remove what is unfinished, and let the next process have the folder."""
        for file in self._files.values():
            with suppress(OSError):  # on a full disk closing fails as writing did
                file.close()
        shutil.rmtree(self._aside, ignore_errors=True)
        self._lock.release()

    def add(self, chunk: EncodedChunk) -> None:
        """Append the blocks of a chunk, and name the records that were left out."""
        for name in ROW_ARRAYS:
            self._append(name, getattr(chunk, name))
        self._append_ends("sentence_offsets", chunk.sentence_counts)
        self._append_ends("span_offsets", chunk.span_counts)
        self._append_ends("text_offsets", chunk.text_lengths.ravel())
        self._write("texts", chunk.texts)
        if chunk.bad:
            with (self._aside / BAD_RECORDS).open("a", encoding="ascii") as file:
                file.writelines(json.dumps(bad._asdict()) + "\n" for bad in chunk.bad)

    def finish(self, tokenizer: Tokenizer, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write vocabulary and manifest, and give the folder its name.

        Args:
          tokenizer: whose ids the rows hold.
          manifest: what else the manifest says.

        Returns:
          The manifest as written: also the arrays' shapes and the content hash, a SHA-256 over the
          vocabulary and all files of tokens and text.
        """
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        tokenizer.save(self._aside / VOCABULARY)
        digest = hashlib.sha256(tokenizer.content_hash.encode())
        for name, part in sorted(self._hashes.items()):
            digest.update(f"{name} {part.hexdigest()}".encode())
        arrays = {
            name: {"shape": list(self._shapes[name]), "dtype": self._dtypes[name].str}
            for name in (*ROW_ARRAYS, *OFFSET_ARRAYS)
        }
        complete = {
            "format": FORMAT,
            "content_hash": digest.hexdigest(),
            **manifest,
            "tokenizer_hash": tokenizer.content_hash,
            "vocab_size": len(tokenizer),
            "arrays": arrays,
            "files": {name: part.hexdigest() for name, part in sorted(self._hashes.items())},
        }
        with (self._aside / MANIFEST).open("wb") as last:
            last.write(json.dumps(complete, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))
            last.flush()
            os.fsync(last.fileno())
        shutil.rmtree(self.scratch, ignore_errors=True)
        self._publish()
        return complete

    def _check_name(self) -> None:
        if self._out.exists() and not self._overwrite:
            raise CorpusError(
                "prepare writes a new folder",
                got=f"{self._out}, which exists",
                remedy="Choose another folder, or pass overwrite.",
            )
        if self._out.exists() and not (self._out / MANIFEST).is_file():
            raise CorpusError(
                "overwrite replaces a prepared corpus only",
                got=f"{self._out}, which is none",
                remedy="Remove it yourself if you are sure, or choose another folder.",
            )

        arrays = (f"{name}.bin" for name in (*ROW_ARRAYS, *OFFSET_ARRAYS, "texts"))
        own = {MANIFEST, VOCABULARY, SETTINGS, BAD_RECORDS, *arrays}
        foreign = sorted({file.name for file in self._out.iterdir()} - own) if self._out.exists() else []
        if foreign:
            raise CorpusError(
                "overwrite replaces a folder that holds a prepared corpus alone",
                got=f"{self._out} with {', '.join(foreign[:5])}",
                remedy="Move what is yours elsewhere, or choose another folder.",
            )

    def _publish(self) -> None:
        if not self._out.exists():
            self._aside.rename(self._out)
            return
        old = self._lock.aside(REPLACED)
        shutil.rmtree(old, ignore_errors=True)
        self._out.rename(old)
        self._aside.rename(self._out)
        shutil.rmtree(old)

    def _append(self, name: str, rows: np.ndarray) -> None:
        rows = np.ascontiguousarray(rows)
        self._write(name, rows.data)
        before = self._shapes.get(name, (0,))[0]
        self._shapes[name] = (before + rows.shape[0], *rows.shape[1:])
        self._dtypes[name] = rows.dtype

    def _append_ends(self, name: str, counts: np.ndarray) -> None:
        ends = self._ends[name] + np.cumsum(counts, dtype=np.int64)
        if len(ends):
            self._ends[name] = int(ends[-1])
            self._append(name, ends)

    def _write(self, name: str, data: bytes | memoryview) -> None:
        if len(data):
            self._files[name].write(data)
            self._hashes[name].update(data)
