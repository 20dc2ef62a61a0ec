"""Train a WordPiece vocabulary on texts."""

from collections import Counter
from collections.abc import Iterable

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from realm_jax.errors import ConfigError
from realm_jax.text.normalisation import UNCASED
from realm_jax.text.tokenizer import CONTINUATION, SPECIAL_TOKENS, UNK

LARGEST_VOCABULARY = 1 << 24


def train_vocabulary(texts: Iterable[str], *, vocab_size: int, min_frequency: int = 2) -> list[str]:
    """Train a lower-cased WordPiece vocabulary; the same texts give the same vocabulary in every run.

    The texts are gone through twice: the alphabet is fixed first, because the library numbers the
    continuation pieces in hash order otherwise, which changes from run to run. It is the most frequent
    characters, at most a tenth of the vocabulary, or 100.

    Args:
      texts: strings; a list or another iterable that can be gone through more than once.
      vocab_size: tokens in the vocabulary, special ones included; fewer if the texts are small.
      min_frequency: how often a pair of pieces must occur to be joined, and a character to be kept.

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
    normalizer = UNCASED.normalizer()
    characters: Counter[str] = Counter()
    pairs: set[tuple[str, str]] = set()
    for text in texts:
        normal = normalizer.normalize_str(text)
        characters.update(normal)
        pairs.update(zip(normal, normal[1:], strict=False))
    limit = max(100, vocab_size // 10)
    ranked = sorted((-n, c) for c, n in characters.items() if n >= min_frequency and not c.isspace())
    alphabet = {c for _, c in ranked[:limit]}
    splits = _splits_words(alphabet)
    inner = {b for a, b in pairs if a in alphabet and b in alphabet and not splits[a] and not splits[b]}
    head = [*SPECIAL_TOKENS, *sorted(alphabet), *(CONTINUATION + c for c in sorted(inner))]
    if len(head) > vocab_size:
        raise ConfigError(
            f"vocab_size holds the special tokens and the alphabet, here {len(head)} pieces",
            got=vocab_size,
            remedy="Raise vocab_size, or min_frequency: rarer characters are left out.",
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


class _Filter(dict[int, str]):
    """A translation table that turns every character outside it into a space."""

    def __missing__(self, key: int) -> str:
        return " "


def _splits_words(characters: Iterable[str]) -> dict[str, bool]:
    """Say for each character whether BERT's pre-tokenizer makes it a word of its own."""
    splitter = pre_tokenizers.BertPreTokenizer()
    return {c: len(splitter.pre_tokenize_str(f"a{c}a")) > 1 for c in characters}
