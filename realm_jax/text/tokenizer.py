"""WordPiece with character offsets: a vocabulary, and how texts are normalised for it."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from realm_jax.errors import ConfigError, CorpusError
from realm_jax.text.normalisation import (
    SETTINGS,
    TOKENIZER,
    UNCASED,
    Normalisation,
    read_normalisation,
    write_normalisation,
)

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
VOCABULARY = "vocab.txt"
MAX_WORD_CHARACTERS = 100  # longer words become [UNK], as in BERT


class Encoding(NamedTuple):
    """Token ids and where each token stands in the original text."""

    ids: np.ndarray  # int32 [n]
    offsets: np.ndarray  # int32 [n, 2]; characters [start, stop)


class Tokenizer:
    """A WordPiece vocabulary that encodes text and remembers where each token came from."""

    def __init__(self, vocabulary: Sequence[str], normalisation: Normalisation = UNCASED):
        """Build from the vocabulary in id order.

        Args:
          vocabulary: tokens; all five special ones among them, [PAD] first.
          normalisation: of texts before they are cut into wordpieces.

        Raises:
          CorpusError: a special token is missing, [PAD] is not id 0, or a token occurs twice.
        """
        self.vocabulary: tuple[str, ...] = tuple(vocabulary)
        ids = {token: i for i, token in enumerate(self.vocabulary)}
        missing = [token for token in SPECIAL_TOKENS if token not in ids]
        if missing:
            raise CorpusError(
                "A vocabulary holds [PAD] [UNK] [CLS] [SEP] [MASK]",
                got=f"one of {len(ids)} tokens without {' '.join(missing)}",
                remedy="Use a BERT vocab.txt, or train one with train_vocabulary.",
            )
        if ids[PAD] != 0:
            raise CorpusError(
                "[PAD] is the first token of a vocabulary, because padding is id 0",
                got=f"[PAD] on line {ids[PAD] + 1}",
                remedy="Move [PAD] to the first line.",
            )
        if len(ids) != len(self.vocabulary):
            twice = [token for token, n in Counter(self.vocabulary).items() if n > 1][:3]
            raise CorpusError(
                "Each token stands once in a vocabulary",
                got=f"{twice} more than once",
                remedy="Remove the repeated lines.",
            )
        self._ids = ids
        self.normalisation = normalisation
        self._with_specials = _build(ids, normalisation)
        self._literal = _build(ids, normalisation)
        self._literal.encode_special_tokens = True

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[tuple[str, ...], Normalisation]]:
        return Tokenizer, (self.vocabulary, self.normalisation)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a vocabulary: BERT's vocab.txt, one token a line, or a tokenizer.json with wordpieces.

        How texts are normalised is read from the files beside it, see `read_normalisation`.

        Raises:
          CorpusError: the file holds no vocabulary, or one beside it cannot be read.
        """
        path = Path(path)
        normalisation = normalisation_beside(path)
        try:
            text = path.read_bytes().decode("utf-8-sig")
            if path.suffix == ".json":
                return cls(_wordpieces(json.loads(text)), normalisation)
        except (OSError, ValueError) as error:
            raise CorpusError(
                "A vocabulary is a UTF-8 file with one token a line, or a tokenizer.json with wordpieces",
                got=f"{path} ({error})",
                remedy="Give the path of a vocab.txt.",
            ) from error
        return cls([line.rstrip("\r") for line in text.removesuffix("\n").split("\n")], normalisation)

    def save(self, path: str | Path) -> None:
        """Write the vocabulary, one token a line, and beside it a normalisation unlike uncased models'."""
        Path(path).write_bytes(self.to_bytes())
        if self.normalisation != UNCASED:
            write_normalisation(Path(path).parent, self.normalisation)

    def to_bytes(self) -> bytes:
        """Return the vocabulary file as bytes."""
        return ("\n".join(self.vocabulary) + "\n").encode("utf-8")

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def pad_id(self) -> int:
        return 0

    @property
    def unk_id(self) -> int:
        return self._ids[UNK]

    @property
    def cls_id(self) -> int:
        return self._ids[CLS]

    @property
    def sep_id(self) -> int:
        return self._ids[SEP]

    @property
    def mask_id(self) -> int:
        return self._ids[MASK]

    @cached_property
    def is_continuation(self) -> np.ndarray:
        """bool [V]: the token goes on a word that an earlier token began."""
        return np.array([token.startswith(CONTINUATION) and len(token) > 2 for token in self.vocabulary])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the vocabulary file, and of the normalisation where it is not that of uncased models."""
        rest = b"" if self.normalisation == UNCASED else json.dumps(self.normalisation).encode()
        return hashlib.sha256(self.to_bytes() + rest).hexdigest()

    def encode(self, text: str, *, special_tokens: bool = True) -> Encoding:
        """Split a text into wordpieces, without adding [CLS] and [SEP].

        Args:
          text: any string.
          special_tokens: take "[MASK]" and the like inside the text for the special tokens;
            otherwise they are text like any other, as corpora need it.

        Returns:
          ids int32 [n] and character offsets int32 [n, 2] into `text`.
        """
        return self.encode_batch([text], special_tokens=special_tokens)[0]

    def encode_batch(self, texts: Sequence[str], *, special_tokens: bool = True) -> list[Encoding]:
        """Encode many texts, on all cores unless TOKENIZERS_PARALLELISM=false.

        Raises:
          ConfigError: a text is no Unicode: it holds half a surrogate pair.
        """
        engine = self._engine(special_tokens)
        try:
            encoded = engine.encode_batch(list(texts), add_special_tokens=False)
        except TypeError as error:
            raise ConfigError(
                "A text is Unicode, in UTF-8 where it comes from outside",
                got="half a surrogate pair, which bytes that are not UTF-8 become",
                remedy="Write it in UTF-8.",
            ) from error
        return [_encoding(item) for item in encoded]

    def decode(self, ids: Iterable[int]) -> str:
        """Join wordpieces into readable text; padding, [CLS] and [SEP] are left out."""
        silent = (self.pad_id, self.cls_id, self.sep_id)
        kept = [int(i) for i in ids if int(i) not in silent]
        return self._with_specials.decode(kept, skip_special_tokens=False)

    def _engine(self, special_tokens: bool) -> tokenizers.Tokenizer:
        return self._with_specials if special_tokens else self._literal


def copy_vocabulary(path: str | Path, folder: str | Path) -> None:
    """Copy a vocabulary into a folder, as `vocab.txt`, and how texts are normalised for it.

    Args:
      path: what `Tokenizer.load` reads; a `vocab.txt` is copied byte for byte.
      folder: to write into.

    Raises:
      CorpusError: the file, or one beside it, cannot be read.
    """
    path, folder = Path(path), Path(folder)
    if path.suffix == ".json":
        Tokenizer.load(path).save(folder / VOCABULARY)
        return
    shutil.copyfile(path, folder / VOCABULARY)
    normalisation = normalisation_beside(path)
    if normalisation != UNCASED:
        write_normalisation(folder, normalisation)


def holds_wordpieces(tokenizer: Any) -> bool:
    """Say whether the content of a tokenizer.json is that of a WordPiece model."""
    model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
    return (
        isinstance(model, dict) and model.get("type") == "WordPiece" and isinstance(model.get("vocab"), dict)
    )


def normalisation_beside(path: Path) -> Normalisation:
    """Read how texts are normalised from the files beside a vocabulary.

    Raises:
      CorpusError: one of them cannot be read.
    """
    try:
        return read_normalisation(path.parent)
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{SETTINGS} and {TOKENIZER} beside a vocabulary say how texts are normalised",
            got=f"those beside {path} ({error})",
            remedy="Repair them, or copy the vocabulary into a folder of its own.",
        ) from error


def _wordpieces(tokenizer: Any) -> list[str]:
    """Take the wordpieces out of the content of a tokenizer.json, in the order of their ids.

    Raises:
      ValueError: it holds none, or their ids are not 0, 1, 2, ...
    """
    if not holds_wordpieces(tokenizer):
        raise ValueError("no WordPiece model")
    prefix = tokenizer["model"].get("continuing_subword_prefix", CONTINUATION)
    if prefix != CONTINUATION:
        raise ValueError(f"pieces that go on with {prefix!r}, not {CONTINUATION}")
    ids = tokenizer["model"]["vocab"]
    ordered = dict(sorted((i, token) for token, i in ids.items() if isinstance(i, int)))
    if list(ordered) != list(range(len(ids))):
        raise ValueError("ids that are not 0, 1, 2, ...")
    return list(ordered.values())


def _build(ids: dict[str, int], normalisation: Normalisation) -> tokenizers.Tokenizer:
    engine = tokenizers.Tokenizer(
        models.WordPiece(ids, unk_token=UNK, max_input_chars_per_word=MAX_WORD_CHARACTERS)
    )
    engine.normalizer = normalisation.normalizer()
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece(prefix=CONTINUATION)
    engine.add_special_tokens(list(SPECIAL_TOKENS))
    return engine


def _encoding(item: tokenizers.Encoding) -> Encoding:
    ids = np.array(item.ids, np.int32)
    return Encoding(ids, np.array(item.offsets, np.int32).reshape(len(ids), 2))
