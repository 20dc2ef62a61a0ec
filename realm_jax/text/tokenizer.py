"""Lower-casing WordPiece with character offsets, from BERT's vocabulary file or trained on a corpus."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from realm_jax.errors import ConfigError, CorpusError

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUATION = "##"
LARGEST_VOCABULARY = 1 << 24
MAX_WORD_CHARACTERS = 100  # longer words become [UNK], as in BERT


class Encoding(NamedTuple):
    """Token ids and where each token stands in the original text."""

    ids: np.ndarray  # int32 [n]
    offsets: np.ndarray  # int32 [n, 2]; characters [start, stop)


class Tokenizer:
    """A WordPiece vocabulary that encodes text and remembers where each token came from."""

    def __init__(self, vocabulary: Sequence[str]):
        """Build from the vocabulary in id order.

        Args:
          vocabulary: tokens; all five special ones among them, [PAD] first.

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
        self._with_specials = _build(ids)
        self._literal = _build(ids)
        self._literal.encode_special_tokens = True

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a vocabulary: BERT's vocab.txt, one token a line, or a tokenizer.json with wordpieces."""
        path = Path(path)
        try:
            text = path.read_bytes().decode("utf-8-sig")
            if path.suffix == ".json":
                return cls(_wordpieces(json.loads(text)))
        except (OSError, ValueError) as error:
            raise CorpusError(
                "A vocabulary is a UTF-8 file with one token a line, or a tokenizer.json with wordpieces",
                got=f"{path} ({error})",
                remedy="Give the path of a vocab.txt.",
            ) from error
        return cls([line.rstrip("\r") for line in text.removesuffix("\n").split("\n")])

    def save(self, path: str | Path) -> None:
        """Write the vocabulary, one token a line."""
        Path(path).write_bytes(self.to_bytes())

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
        """SHA-256 of the vocabulary file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def token_id(self, token: str) -> int | None:
        """Return the id of a token, or None."""
        return self._ids.get(token)

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


def train_vocabulary(
    texts: Iterable[str], *, vocab_size: int, min_frequency: int = 2, alphabet_size: int | None = None
) -> list[str]:
    """Train a WordPiece vocabulary; the same texts give the same vocabulary in every run.

    The texts are gone through twice: the alphabet is fixed first, because the library numbers the
    continuation pieces in hash order otherwise, which changes from run to run.

    Args:
      texts: strings; a list or another iterable that can be gone through more than once.
      vocab_size: tokens in the vocabulary, special ones included; fewer if the texts are small.
      min_frequency: how often a pair of pieces must occur to be joined, and a character to be kept.
      alphabet_size: how many different characters are kept at most, the most frequent ones;
        a tenth of the vocabulary (at least 100) by default.

    Returns:
      The tokens in id order, [PAD] [UNK] [CLS] [SEP] [MASK] first.

    Raises:
      ConfigError: `texts` can be gone through once only, or the alphabet does not fit the vocabulary.
    """
    if iter(texts) is texts:
        raise ConfigError(
            "train_vocabulary goes through the texts twice",
            got=f"a {type(texts).__name__}",
            remedy="Give a list, or an object whose __iter__ starts again.",
        )
    if min_frequency < 1 or not 1 <= vocab_size <= LARGEST_VOCABULARY:
        raise ConfigError(
            f"pairs occur at least once, and a vocabulary has 1 to {LARGEST_VOCABULARY} wordpieces",
            got=f"a frequency of {min_frequency}, a size of {vocab_size}",
            remedy="2 and 30000 are usual.",
        )
    normalizer = _normalizer()
    characters: Counter[str] = Counter()
    pairs: set[tuple[str, str]] = set()
    for text in texts:
        normal = normalizer.normalize_str(text)
        characters.update(normal)
        pairs.update(zip(normal, normal[1:], strict=False))
    limit = alphabet_size or max(100, vocab_size // 10)
    ranked = sorted((-n, c) for c, n in characters.items() if n >= min_frequency and not c.isspace())
    alphabet = {c for _, c in ranked[:limit]}
    splits = _splits_words(alphabet)
    inner = {b for a, b in pairs if a in alphabet and b in alphabet and not splits[a] and not splits[b]}
    head = [*SPECIAL_TOKENS, *sorted(alphabet), *(CONTINUATION + c for c in sorted(inner))]
    if len(head) > vocab_size:
        raise ConfigError(
            f"vocab_size holds the special tokens and the alphabet, here {len(head)} pieces",
            got=vocab_size,
            remedy="Raise vocab_size, or lower alphabet_size.",
        )
    keep = {ord(c): c for c in alphabet}
    table = _Filter(keep)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=head,
        show_progress=False,
        continuing_subword_prefix=CONTINUATION,
    )
    engine = tokenizers.Tokenizer(models.WordPiece(unk_token=UNK))
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.train_from_iterator((normalizer.normalize_str(t).translate(table) for t in texts), trainer)
    vocabulary = engine.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def holds_wordpieces(tokenizer: Any) -> bool:
    """Say whether the content of a tokenizer.json is that of a WordPiece model."""
    model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
    return (
        isinstance(model, dict) and model.get("type") == "WordPiece" and isinstance(model.get("vocab"), dict)
    )


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


class _Filter(dict[int, str]):
    """A translation table that turns every character outside it into a space."""

    def __missing__(self, key: int) -> str:
        return " "


def _splits_words(characters: Iterable[str]) -> dict[str, bool]:
    """Say for each character whether BERT's pre-tokenizer makes it a word of its own."""
    splitter = pre_tokenizers.BertPreTokenizer()
    return {c: len(splitter.pre_tokenize_str(f"a{c}a")) > 1 for c in characters}


def _normalizer() -> normalizers.BertNormalizer:
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
    )


def _build(ids: dict[str, int]) -> tokenizers.Tokenizer:
    engine = tokenizers.Tokenizer(
        models.WordPiece(ids, unk_token=UNK, max_input_chars_per_word=MAX_WORD_CHARACTERS)
    )
    engine.normalizer = _normalizer()
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece(prefix=CONTINUATION)
    engine.add_special_tokens(list(SPECIAL_TOKENS))
    return engine


def _encoding(item: tokenizers.Encoding) -> Encoding:
    ids = np.array(item.ids, np.int32)
    return Encoding(ids, np.array(item.offsets, np.int32).reshape(len(ids), 2))
