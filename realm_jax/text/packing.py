"""Rows of unequal length to arrays of fixed shape."""

from collections.abc import Sequence

import numpy as np

from realm_jax.errors import ConfigError
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.types import Blocks, Rows


def pack_rows(rows: Sequence[np.ndarray], *, length: int) -> Rows:
    """Stack rows, padded with id 0 at the end.

    Args:
      rows: B arrays int [n], n <= length.
      length: L.

    Returns:
      ids int32 [B, L] and length int32 [B].

    Raises:
      ConfigError: a row is longer than `length`.
    """
    lengths = np.array([len(row) for row in rows], np.int32)
    if len(rows) and lengths.max() > length:
        raise ConfigError(
            f"A row has at most {length} tokens",
            got=f"a row of {lengths.max()}",
            remedy="Raise the length, or cut the rows before packing them.",
        )
    ids = np.zeros((len(rows), length), np.int32)
    if len(rows):
        ids[np.arange(length) < lengths[:, None]] = np.concatenate(rows)
    return Rows(ids=ids, length=lengths)


def cut_row(row: np.ndarray, length: int) -> np.ndarray:
    """Shorten a row to a length; its last token, [SEP], stays."""
    return row if len(row) <= length else np.append(row[: length - 1], row[-1])


def framed(ids: np.ndarray, *, length: int, cls_id: int, sep_id: int) -> np.ndarray:
    """Put [CLS] and [SEP] round a text, cutting its end to `length` tokens in all. int32 [<= length]."""
    row = np.empty(min(len(ids), length - 2) + 2, np.int32)
    row[0], row[-1] = cls_id, sep_id
    row[1:-1] = ids[: len(row) - 2]
    return row


def pack_texts(texts: Sequence[str], tokenizer: Tokenizer, *, length: int) -> Rows:
    """Tokenise texts as [CLS] text [SEP], "[MASK]" being the special token; longer ones lose their end.

    Args:
      texts: B strings.
      tokenizer: of the model that reads them.
      length: L.

    Returns:
      Rows `[B, L]`.
    """
    rows = [
        framed(encoding.ids, length=length, cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id)
        for encoding in tokenizer.encode_batch(list(texts))
    ]
    return pack_rows(rows, length=length)


def null_blocks(
    shape: tuple[int, ...], *, title_length: int, body_length: int, cls_id: int, sep_id: int
) -> Blocks:
    """Return blocks without text: title [CLS] [SEP], body [SEP].

    Args:
      shape: leading axes.
      title_length, body_length: widths of the token rows.
      cls_id, sep_id: ids of the special tokens.
    """
    title = np.zeros((*shape, title_length), np.int32)
    body = np.zeros((*shape, body_length), np.int32)
    title[..., 0], title[..., 1], body[..., 0] = cls_id, sep_id, sep_id
    return Blocks(
        title=Rows(ids=title, length=np.full(shape, 2, np.int32)),
        body=Rows(ids=body, length=np.full(shape, 1, np.int32)),
    )
