"""Documents to sentences, and sentences to blocks within a token budget."""

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np

from realm_jax.errors import ConfigError

CharRange = tuple[int, int]  # characters [start, stop)
Splitter = Callable[[str], list[CharRange]]


def word_set(text: str) -> frozenset[str]:
    """Return the words of a list in the source code, which white space divides."""
    return frozenset(text.split())


# Abbreviations that a capitalised word usually follows inside a sentence.
ABBREVIATIONS = word_set("""
    mr mrs ms dr prof st ste mt ft rev hon gen col maj capt cmdr lt sgt cpl adm gov sen rep pres supt
    messrs mlle mme fr sr jr esq vs v cf eg ie e.g i.e viz approx ca c d b r fl no nos vol vols pp p fig figs
    ed eds trans op cit art sec ch jan feb mar apr jun jul aug sep sept oct nov dec
    """)
# Abbreviations that end sentences as well: they end one if such a word follows.
OPENERS = word_set("""
    the a an in on at it its he she they his her their this that these those there however although after
    before when while as since during for from by with but and or if some many most several one both each
    according another other such to under we i you not no only
    """)

# It starts with one class of characters and looks behind from there: Python's matcher then skips through
# the text to the next of these, several times as fast as with three alternatives. It starts at the first stop
# of several, so that a line of dots is gone through once.
_BOUNDARY = re.compile(
    r"""[.!?\u2026\u3002\uff01\uff1f\n]
        (?: (?<=[.!?\u2026])(?<![.!?\u2026]{2})  # a stop, quotes, white space
              [.!?\u2026]*+ ["'\u201d\u2019\u00bb)\]]*+ (?=\s)
          | (?<=[\u3002\uff01\uff1f]) [\u3002\uff01\uff1f]*+ ["\u201d\u2019\u300d\u300f)]*+  # the same, CJK
          | (?<=\n) [ \t\r]*+ \n )                                            # a blank line
        \s*+""",
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
        raise ConfigError(
            f"A splitter is one of {', '.join(SPLITTERS)}", got=name, remedy="Choose one of them."
        )
    return SPLITTERS[name]


def first_tokens(token_starts: np.ndarray, begins: np.ndarray, *, starts_word: np.ndarray) -> np.ndarray:
    """Return the token at which each stretch of text begins.

    A stretch without a token, or one that begins inside a word, belongs to the stretch before it.

    Args:
      token_starts: int [n], first character of each token, in order.
      begins: int [S], first character of each stretch, in order.
      starts_word: bool [n], False where a token goes on a word.

    Returns:
      int64 [<= S], in order, each once.
    """
    found = np.unique(np.searchsorted(token_starts, begins))
    found = found[found < len(token_starts)]
    return found[starts_word[found]]


def fill_blocks(edges: Sequence[int], *, max_tokens: int, starts_word: np.ndarray) -> list[list[int]]:
    """Fill blocks greedily with whole sentences.

    A sentence of more than `max_tokens` is cut at the last word start that fits (inside a word only where
    the word alone exceeds the budget), and its parts count as sentences.

    Args:
      edges: where the sentences of a document begin, in tokens, and where the last one ends.
      max_tokens: wordpieces a block at most.
      starts_word: bool [>= edges[-1]], False where a token goes on a word.

    Returns:
      For each block the edges of its sentences; the last of one block is the first of the next.
    """
    blocks = [[edges[0]]]
    for low, high in itertools.pairwise(edges):
        for start, stop in _parts(low, high, max_tokens=max_tokens, starts_word=starts_word):
            if stop - blocks[-1][0] > max_tokens:
                blocks.append([start])
            blocks[-1].append(stop)
    return blocks


def block_uid(title: str, body: str) -> int:
    """Hash a block's text to 64 bits that stay the same wherever the block stands in a corpus."""
    digest = hashlib.blake2b(title.encode() + b"\0" + body.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _parts(start: int, stop: int, *, max_tokens: int, starts_word: np.ndarray) -> list[tuple[int, int]]:
    """Cut a sentence to parts within the budget."""
    parts = []
    while stop - start > max_tokens:
        fits = np.flatnonzero(starts_word[start + 1 : start + max_tokens + 1])
        end = start + (int(fits[-1]) + 1 if len(fits) else max_tokens)
        parts.append((start, end))
        start = end
    return [*parts, (start, stop)]


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
