"""Documents to sentences, and sentences to blocks within a token budget."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from realm_jax.errors import ConfigError
from realm_jax.text.tokenizer import Encoding

CharRange = tuple[int, int]  # characters [start, stop)
Splitter = Callable[[str], list[CharRange]]

def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Abbreviations that a capitalised word usually follows inside a sentence.
ABBREVIATIONS = _words("""
    mr mrs ms dr prof st ste mt ft rev hon gen col maj capt cmdr lt sgt cpl adm gov sen rep pres supt
    messrs mlle mme fr sr jr esq vs v cf eg ie e.g i.e viz approx ca c d b r fl no nos vol vols pp p fig figs
    ed eds trans op cit art sec ch jan feb mar apr jun jul aug sep sept oct nov dec
    """)
# Abbreviations that end sentences as well: they end one if such a word follows.
OPENERS = _words("""
    the a an in on at it its he she they his her their this that these those there however although after
    before when while as since during for from by with but and or if some many most several one both each
    according another other such to under we i you not no only
    """)

_BOUNDARY = re.compile(
    r"""(?: [.!?\u2026]+ ["'\u201d\u2019\u00bb)\]]* (?=\s)   # a stop, closing quotes, then white space
          | [\u3002\uff01\uff1f]+ ["\u201d\u2019\u300d\u300f)]*  # East Asian stops need no white space
          | \n [ \t\r]* \n )                                 # a blank line
        \s*""",
    re.VERBOSE,
)
_LAST_WORD = re.compile(r"[^\s(\[\"'\u201c\u2018]+$")
_NEXT_WORD = re.compile(r"[\"'\u201c\u2018\u00ab(\[]*(\w*)")


def split_sentences(text: str) -> list[CharRange]:
    """Split a text at sentence ends by rule.

    A stop ends a sentence if white space and no lower-case letter follow, unless it belongs to an
    abbreviation or an initial. Decimals have no white space behind the stop. A blank line always ends one.

    Args:
      text: any string.

    Returns:
      Character ranges; one after the other they cover the text. Empty for the empty text.
    """
    starts = [0] + [m.end() for m in _BOUNDARY.finditer(text) if m.end() < len(text) and _is_end(text, m)]
    return list(zip(starts, [*starts[1:], len(text)], strict=True)) if text else []


def split_lines(text: str) -> list[CharRange]:
    """Take each line for a sentence."""
    starts = [0] + [m.end() for m in re.finditer(r"\n\s*", text) if 0 < m.end() < len(text)]
    return list(zip(starts, [*starts[1:], len(text)], strict=True)) if text else []


SPLITTERS: dict[str, Splitter] = {"rules": split_sentences, "lines": split_lines}


def get_splitter(name: str) -> Splitter:
    """Return the sentence splitter of that name."""
    if name not in SPLITTERS:
        raise ConfigError(f"A splitter is one of {', '.join(SPLITTERS)}", got=name,
                          remedy="Choose one of them.")
    return SPLITTERS[name]


class BlockRange(NamedTuple):
    """A block inside its document."""

    start: int  # first character
    stop: int  # character behind the last
    token_start: int  # first token of the document's encoding
    token_stop: int
    sentences: np.ndarray  # int32 [S, 2]; token ranges [start, stop) inside the block, covering it


def split_blocks(
    text: str,
    encoding: Encoding,
    sentences: Sequence[CharRange],
    *,
    max_tokens: int = 288,
    is_continuation: np.ndarray,
) -> list[BlockRange]:
    """Fill blocks greedily with whole sentences.

    A sentence of more than `max_tokens` is cut at the last word start that fits (inside a word only where
    the word alone exceeds the budget).

    Args:
      text: the document.
      encoding: its wordpieces.
      sentences: character ranges in order.
      max_tokens: wordpieces a block at most.
      is_continuation: bool [V], see `Tokenizer.is_continuation`.

    Returns:
      Blocks in order; their token ranges cover the encoding.
    """
    n = len(encoding.ids)
    if n == 0:
        return []
    pieces = _sentence_tokens(encoding, sentences, max_tokens=max_tokens, is_continuation=is_continuation)
    blocks: list[list[int]] = [[pieces[0]]]  # sentence starts of each block
    for start, stop in zip(pieces, [*pieces[1:], n], strict=True):
        if stop - blocks[-1][0] > max_tokens:
            blocks.append([start])
        elif start != blocks[-1][0]:
            blocks[-1].append(start)
    ranges = []
    for i, starts in enumerate(blocks):
        first, last = starts[0], blocks[i + 1][0] if i + 1 < len(blocks) else n
        start = int(encoding.offsets[first, 0])
        stop = int(encoding.offsets[last, 0]) if last < n else len(text)
        edges = np.array([*starts, last], np.int32) - np.int32(first)
        stop = start + len(text[start:stop].rstrip())
        ranges.append(BlockRange(start, stop, first, last, np.stack([edges[:-1], edges[1:]], axis=1)))
    return ranges


def block_uid(title: str, body: str) -> int:
    """Hash a block's text to 64 bits that stay the same wherever the block stands in a corpus."""
    digest = hashlib.blake2b(title.encode() + b"\0" + body.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _sentence_tokens(
    encoding: Encoding, sentences: Sequence[CharRange], *, max_tokens: int, is_continuation: np.ndarray
) -> list[int]:
    """Return the token at which each sentence starts, after cutting those that are too long."""
    begins = np.array([start for start, _ in sentences], np.int32)
    tokens = np.searchsorted(encoding.offsets[:, 0], begins)
    word_start = ~is_continuation[encoding.ids]
    kept = {0, *(int(t) for t in tokens if t < len(word_start) and word_start[t])}
    starts = sorted(kept)
    if max(np.diff([*starts, len(encoding.ids)])) <= max_tokens:
        return starts
    pieces = []
    for start, stop in zip(starts, [*starts[1:], len(encoding.ids)], strict=True):
        pieces.append(start)
        while stop - start > max_tokens:
            fits = np.flatnonzero(word_start[start + 1 : start + max_tokens + 1])
            start += int(fits[-1]) + 1 if len(fits) else max_tokens
            pieces.append(start)
    return pieces


def _is_end(text: str, match: re.Match[str]) -> bool:
    stop = match.group().rstrip()
    if not stop:  # a blank line
        return True
    following = _NEXT_WORD.match(text, match.end())
    word = following.group(1) if following else ""
    if word[:1].islower() or text[match.end()] in ",;:":
        return False
    if stop[0] != "." or stop.startswith(".."):
        return True
    before = _LAST_WORD.search(text, max(0, match.start() - 24), match.start())
    last = before.group() if before else ""
    dotted = "." in last and len(last) <= 6 and last.replace(".", "").isalpha()  # U.S
    if dotted or len(last) == 1 and last.isupper():
        return word.lower() in OPENERS and (len(last) > 1 or last == "I")
    return last.lower() not in ABBREVIATIONS or (last.lower() == "no" and not word[:1].isdigit())
