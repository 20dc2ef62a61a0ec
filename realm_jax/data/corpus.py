"""A prepared corpus, memory-mapped: blocks are gathered by index, without work per token."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realm_jax.data.writer import FORMAT, MANIFEST, OFFSET_ARRAYS, ROW_ARRAYS
from realm_jax.errors import CorpusError
from realm_jax.text.answers import whole_character
from realm_jax.text.packing import null_blocks
from realm_jax.text.swap import SpanPool
from realm_jax.text.tokenizer import VOCABULARY, Tokenizer
from realm_jax.types import NO_BLOCK, Blocks, Rows

POOL_BLOCKS = 200_000  # blocks looked at for salient spans, at most


class BlockText(NamedTuple):
    """What people read."""

    title: str
    body: str
    document_id: str


@dataclass(frozen=True)
class Corpus:
    """N blocks on disk. Open it with `Corpus.open`."""

    path: Path
    manifest: dict[str, Any]
    arrays: dict[str, np.ndarray]  # see EncodedChunk; offsets are int64 and start with 0
    texts: np.ndarray  # uint8; UTF-8 of id, title and body of each block

    @classmethod
    def open(cls, path: str | Path) -> "Corpus":
        """Open a folder that `prepare` has written; nothing is read before it is asked for.

        Raises:
          CorpusError: it is no prepared corpus, of another format, or its files have other sizes than
            its manifest says.
        """
        if not str(path):
            raise CorpusError(
                "This needs a prepared corpus to search",
                got="no name of one",
                remedy="Name its folder, such as with --corpus; prepare writes one.",
            )
        path = Path(path)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if not isinstance(manifest, dict) or "content_hash" not in manifest:
                raise ValueError(f"its {MANIFEST} is that of something else")
            missing = {"arrays", "tokenizer_hash", "kinds"} - set(manifest)
            if manifest.get("format") == FORMAT and missing:
                raise ValueError(f"its {MANIFEST} lacks {', '.join(sorted(missing))}")
        except (OSError, ValueError) as error:
            raise CorpusError(
                f"A prepared corpus is a folder with a {MANIFEST}",
                got=f"{path} ({error})",
                remedy="Check the path, or write it with prepare.",
            ) from error
        if manifest.get("format") != FORMAT:
            raise CorpusError(
                f"This version reads corpora of format {FORMAT}",
                got=f"format {manifest.get('format')} in {path}",
                remedy="Prepare it again.",
            )
        arrays = {
            name: _map(path / f"{name}.bin", **manifest["arrays"][name])
            for name in (*ROW_ARRAYS, *OFFSET_ARRAYS)
        }
        texts = _map(path / "texts.bin", shape=[int(arrays["text_offsets"][-1])], dtype="|u1")
        return cls(path, manifest, arrays, texts)

    def __len__(self) -> int:
        return int(self.arrays["bodies"].shape[0])

    @property
    def body_width(self) -> int:
        return int(self.arrays["bodies"].shape[1])

    @property
    def title_width(self) -> int:
        return int(self.arrays["titles"].shape[1])

    @property
    def content_hash(self) -> str:
        return str(self.manifest["content_hash"])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose ids the rows hold."""
        tokenizer = Tokenizer.load(self.path / VOCABULARY)
        if tokenizer.content_hash != self.manifest["tokenizer_hash"]:
            raise CorpusError(
                "A corpus keeps the vocabulary it was tokenised with",
                got=f"another {VOCABULARY}, or normalised otherwise, in {self.path}",
                remedy="Prepare it again.",
            )
        return tokenizer

    def gather(self, block_ids: np.ndarray) -> Blocks:
        """Fetch blocks by index.

        Args:
          block_ids: int [...]; NO_BLOCK gives the null block.

        Returns:
          int32 token rows with the same leading axes.

        Raises:
          CorpusError: an id is neither a block of this corpus nor NO_BLOCK.
        """
        ids = np.asarray(block_ids)
        if ids.size and (ids.min() < NO_BLOCK or ids.max() >= len(self)):
            raise CorpusError(
                f"Block ids of this corpus are 0 to {len(self) - 1}, or {NO_BLOCK} for none",
                got=f"ids from {ids.min()} to {ids.max()}",
                remedy="Check that index and corpus belong together.",
            )
        flat = np.maximum(ids, 0).ravel()
        title = self._rows("titles", "title_lengths", flat, ids.shape)
        body = self._rows("bodies", "body_lengths", flat, ids.shape)
        null = ids == NO_BLOCK
        if null.any():
            empty = self._null
            for row, blank in ((title, empty.title), (body, empty.body)):
                row.ids[null], row.length[null] = blank.ids, blank.length
        return Blocks(title=title, body=body)

    def lengths(self) -> np.ndarray:
        """Return the tokens of each body, [SEP] included: int32 [N]."""
        return self.arrays["body_lengths"].astype(np.int32)

    def token_counts(self) -> np.ndarray:
        """Return the tokens of each block, title and body: int32 [N]."""
        return self.lengths() + self.arrays["title_lengths"].astype(np.int32)

    @cached_property
    def duplicate_of(self) -> np.ndarray:
        """int32 [N]: the first block with the same title and body; a block's own id where it is the first."""
        _, first, which = np.unique(self.arrays["uids"], return_index=True, return_inverse=True)
        return first[which].astype(np.int32)

    def sentences(self, block_id: int) -> np.ndarray:
        """Return the sentences of a block: int32 [S, 2], token ranges [start, stop) in its body."""
        return self._ragged("sentences", "sentence_offsets", block_id)

    def spans(self, block_id: int) -> np.ndarray:
        """Return the salient spans of a block: int32 [P, 3], start, stop (exclusive), kind id."""
        return self._ragged("spans", "span_offsets", block_id)

    def body(self, block_id: int) -> np.ndarray:
        """Return the tokens of a block's body, [SEP] included, without padding: int32 [n]."""
        return self.arrays["bodies"][block_id, : int(self.arrays["body_lengths"][block_id])].astype(np.int32)

    def title(self, block_id: int) -> np.ndarray:
        """Return the token ids of a title, int32 [m], without [CLS] and [SEP]."""
        length = int(self.arrays["title_lengths"][block_id])
        return self.arrays["titles"][block_id, 1 : length - 1].astype(np.int32)

    def text(self, block_id: int) -> BlockText:
        """Return a block as people read it."""
        a, b, c, d = (int(i) for i in self.arrays["text_offsets"][3 * block_id : 3 * block_id + 4])
        ranges = ((a, b), (b, c), (c, d))
        document, title, body = (self.texts[i:j].tobytes().decode("utf-8") for i, j in ranges)
        return BlockText(title, body, document)

    def answer_texts(self, places: Sequence[tuple[int, int, int]]) -> list[str]:
        """Return the stretches of blocks' texts that some of their tokens stand for, encoded on all cores.

        Args:
          places: block, first and last token in its body, both inclusive as in QuestionBatch.
        """
        bodies = [self.text(block_id).body for block_id, _, _ in places]
        encoded = self.tokenizer.encode_batch(bodies, special_tokens=False)
        texts = []
        for (block_id, start, stop), body, encoding in zip(places, bodies, encoded, strict=True):
            stored = self.body(block_id)
            if np.array_equal(encoding.ids, stored[:-1]):
                last = min(stop, len(encoding.ids) - 1)  # the closing [SEP] stands for no text
                end = whole_character(body, int(encoding.offsets[last, 1]))
                texts.append(body[int(encoding.offsets[start, 0]) : end])
            else:  # a block that starts inside a word longer than the budget reads differently on its own
                texts.append(self.tokenizer.decode(stored[start : stop + 1]))
        return texts

    def span_pool(self, *, further: Sequence[Sequence[np.ndarray]] = ()) -> SpanPool:
        """Collect the different salient spans, from blocks spread evenly over the corpus.

        Args:
          further: groups of other spans, token ids int [m]; each group is a kind of its own, for those of its
            spans that are no salient ones.
        """
        blocks = np.unique(np.linspace(0, len(self) - 1, min(POOL_BLOCKS, len(self))).astype(np.int64))
        spans, kinds = [], []
        for block_id in blocks.tolist():
            found = self.spans(block_id)
            row = self.arrays["bodies"][block_id]
            spans += [row[start:stop] for start, stop, _ in found.tolist()]
            kinds += found[:, 2].tolist()
        for kind, group in enumerate(further, start=len(self.manifest["kinds"])):
            spans += group
            kinds += [kind] * len(group)
        return SpanPool(spans, np.array(kinds, np.int32), is_continuation=self.tokenizer.is_continuation)

    def titles(self) -> list[np.ndarray]:
        """Return the different titles: token ids int32 [m] each."""
        different = np.unique(self.arrays["titles"], axis=0, return_index=True)[1]
        return [title for i in different.tolist() if len(title := self.title(i))]

    @cached_property
    def _null(self) -> Blocks:
        return null_blocks(
            (),
            title_length=self.title_width,
            body_length=self.body_width,
            cls_id=self.tokenizer.cls_id,
            sep_id=self.tokenizer.sep_id,
        )

    def _rows(self, name: str, lengths: str, flat: np.ndarray, shape: tuple[int, ...]) -> Rows:
        ids = self.arrays[name][flat].astype(np.int32)
        return Rows(
            ids=ids.reshape(*shape, ids.shape[-1]),
            length=self.arrays[lengths][flat].astype(np.int32).reshape(shape),
        )

    def _ragged(self, name: str, offsets: str, block_id: int) -> np.ndarray:
        start, stop = self.arrays[offsets][block_id : block_id + 2]
        return self.arrays[name][start:stop].astype(np.int32)


def _map(path: Path, *, shape: list[int], dtype: str) -> np.ndarray:
    """Map a file read-only; as a plain array, since np.memmap is slow to index."""
    expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    size = path.stat().st_size if path.is_file() else -1
    if size != expected:
        raise CorpusError(
            f"{path.name} of this corpus has {expected} bytes",
            got="no such file" if size < 0 else f"{size} bytes",
            remedy=f"{path.parent} is damaged: prepare it again.",
        )
    if expected == 0:
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=tuple(shape)))
