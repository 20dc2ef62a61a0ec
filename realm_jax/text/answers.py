"""When is an answer right, and where does it stand in a text?"""

import itertools
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_RUNS = re.compile(r"[^\W_]+")


def normalize_answer(text: str) -> str:
    """Normalise an answer for comparison.

    Unicode NFD, lower case, ASCII punctuation deleted, articles deleted, white space collapsed.

    Source: the SQuAD 1.1 evaluation, with NFD as ORQA puts in front of it.
    """
    text = unicodedata.normalize("NFD", text).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, answers: Iterable[str]) -> bool:
    """Say whether a prediction equals one of the answers after normalisation."""
    normal = normalize_answer(prediction)
    return any(normal == normalize_answer(answer) for answer in answers)


def spellings(answers: Iterable[str]) -> list[str]:
    """Write answers in the cases a text may have them in, as exact match knows no case: themselves first."""
    ways = (str, str.lower, str.capitalize, str.title, str.upper)
    return list(dict.fromkeys(way(answer) for way in ways for answer in answers))


def matching_spans(text: str, offsets: np.ndarray, answers: Iterable[str]) -> np.ndarray:
    """Find the spans of tokens that may equal an answer after normalisation, no longer than they need be.

    Text is reduced to what normalisation leaves of it, white space aside: nothing of punctuation and
    articles. Where an answer stands in their concatenation from the beginning of one to the end of another,
    `exact_match` of the text between has the last word. Where nothing is left of an answer, that is any span.

    Args:
      text: where the tokens stand.
      offsets: int [n, 2], characters [start, stop) of the tokens.
      answers: any of which will do.

    Returns:
      int64 [S, 2], first and last token (inclusive).
    """
    wanted = {normalize_answer(answer).replace(" ", "") for answer in answers}
    if "" in wanted:  # "A"
        return np.stack(np.triu_indices(len(offsets)), axis=1)
    joined, owners = _left_of(text, offsets)
    if not joined:
        return np.zeros((0, 2), np.int64)
    changes = [0, *(p for p in range(1, len(owners)) if owners[p] != owners[p - 1]), len(owners)]
    begins = {p: owners[p] for p in changes[:-1]}
    ends = {p: owners[p - 1] for p in changes[1:]}
    found = []
    for answer in wanted:
        at = joined.find(answer)
        while at >= 0:
            if at in begins and at + len(answer) in ends:
                found.append((begins[at], ends[at + len(answer)]))
            at = joined.find(answer, at + 1)
    return np.array(found, np.int64).reshape(-1, 2)


def _left_of(text: str, offsets: np.ndarray) -> tuple[str, list[int]]:
    """Return what normalisation leaves of a text, without white space, and the token of each character.

    What stands in no token, such as an accent behind one, belongs to the token before it.
    """
    text = text[: whole_character(text, int(offsets[-1, 1]))] if len(offsets) else ""
    # By characters, for each to be known where it comes from, with their accents, whose order changes.
    first = [at for at, c in enumerate(text) if not at or not unicodedata.combining(c)]
    token_of = np.searchsorted(offsets[:, 0], np.array(first, np.int64), side="right") - 1
    characters = (text[at:stop] for at, stop in itertools.pairwise([*first, len(text)]))
    pieces = [unicodedata.normalize("NFD", c).lower().translate(_PUNCTUATION) for c in characters]
    whole = "".join(pieces)
    kept = np.array([not c.isspace() for c in whole], bool)
    for article in _ARTICLES.finditer(whole):
        kept[article.start() : article.end()] = False
    owners = np.repeat(token_of, [len(piece) for piece in pieces])
    kept &= owners >= 0
    return "".join(c for c, keep in zip(whole, kept.tolist(), strict=True) if keep), owners[kept].tolist()


def whole_character(text: str, stop: int) -> int:
    """Return where the last character before `stop` ends: behind its accents, which no token may claim."""
    while stop < len(text) and unicodedata.category(text[stop]) == "Mn":
        stop += 1
    return stop


def words(text: str) -> list[str]:
    """Return the runs of letters and digits, lower-cased and without accents."""
    text = unicodedata.normalize("NFD", text.lower())
    return _RUNS.findall("".join(c for c in text if unicodedata.category(c) != "Mn"))


def has_answer_words(text_words: Sequence[str], answers_words: Iterable[Sequence[str]]) -> bool:
    """Say whether one of the answers stands in a text as a run of whole words.

    Args:
      text_words: of the text, from `words`.
      answers_words: of each answer, from `words`; one without a word stands nowhere.

    Source: after DPR (Karpukhin et al. 2020), but that punctuation and accents count for nothing here.
    """
    joined = f" {' '.join(text_words)} "
    return any(answer and f" {' '.join(answer)} " in joined for answer in answers_words)


def span_starts(bodies: np.ndarray, answer_ids: np.ndarray) -> np.ndarray:
    """Mark where a run of token ids begins in each of many bodies.

    Args:
      bodies: int [..., L].
      answer_ids: int [m].

    Returns:
      bool [..., L]; all False for an empty answer.
    """
    length, width = bodies.shape[-1], len(answer_ids)
    found = np.zeros(bodies.shape, bool)
    if 0 < width <= length:
        last = length - width + 1
        found[..., :last] = bodies[..., :last] == answer_ids[0]
        for j in range(1, width):
            if not found.any():
                break
            found[..., :last] &= bodies[..., j : last + j] == answer_ids[j]
    return found
