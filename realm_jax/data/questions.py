"""Open-domain question sets, and where their answers stand in blocks."""

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.records import (
    SHOWN_BAD_RECORDS,
    BadRecord,
    RawRecord,
    Skipped,
    parse_fields,
    text_field,
)
from realm_jax.data.sources import open_source
from realm_jax.data.stream import Stream, build_stream
from realm_jax.errors import CorpusError
from realm_jax.text.answers import span_starts
from realm_jax.text.packing import pack_texts
from realm_jax.text.regex import FLAGS, RegexMatcher
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.types import NO_BLOCK, Rows


class Question(NamedTuple):
    """A question and what counts as its answer."""

    id: str
    question: str
    answers: tuple[str, ...]
    is_regex: bool = False
    gold_passage_ids: tuple[str, ...] = ()  # document ids
    source: str = ""


@dataclass(frozen=True)
class Questions(Sequence[Question]):
    """A set of questions, and the records that were left out."""

    items: tuple[Question, ...]
    bad_counts: dict[str, int]
    bad_records: tuple[BadRecord, ...]

    @classmethod
    def load(cls, source: str | Path) -> "Questions":
        """Read {"question", "answers", optional "id", "is_regex", "gold_passage_ids", "source"} one by one.

        Args:
          source: .jsonl or .jsonl.gz, or "tfds:name/config:split", such as
            "tfds:natural_questions_open:validation"; `parse_question` says what other names are known.

        Returns:
          The questions; bad records are counted and left out.

        Raises:
          CorpusError: the set cannot be read, or holds no question.
        """
        if not str(source).startswith("tfds:") and not Path(source).is_file():
            raise CorpusError(
                "A question set is a .jsonl or .jsonl.gz file, or tfds:name:split",
                got=str(source) or "no name of one",
                remedy="Check the path."
                if str(source)
                else "Name one: --train-questions in training, --questions in evaluation.",
            )
        items: list[Question] = []
        bad: list[BadRecord] = []
        for raw in open_source(source).records():
            parsed = parse_question(raw)
            if isinstance(parsed, Question):
                items.append(parsed)
            else:
                bad.append(parsed)
        if not items:
            raise CorpusError(
                "A question set holds questions",
                got=str(bad[0]) if bad else f"none in {source}",
                remedy="Check the file.",
            )
        return cls(tuple(items), dict(Counter(record.reason for record in bad)), tuple(bad))

    @property
    def content_hash(self) -> str:
        """SHA-256 of all questions, in order; not of their ids, which may name the file they lie in."""
        return hashlib.sha256(repr([tuple(item._replace(id="")) for item in self.items]).encode()).hexdigest()

    def left_out(self) -> list[str]:
        """Return a line for each of the first records that were left out, and one that counts them all."""
        if not self.bad_records:
            return []
        counts = ", ".join(f"{n} {reason}" for reason, n in self.bad_counts.items())
        shown = self.bad_records[:SHOWN_BAD_RECORDS]
        return [*(f"left out: {bad}" for bad in shown), f"questions left out: {counts}"]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


def parse_question(raw: RawRecord) -> Question | BadRecord:
    """Turn a record into a question, or say what is wrong with it.

    Beside our own field names those of TFDS datasets are known: the answers may be in `answer`
    (natural_questions_open) or in its `aliases` (trivia_qa), or in `text` of `answers` (squad).
    """
    value = parse_fields(raw)
    if isinstance(value, Skipped):  # pages of a dump are no questions
        return BadRecord(raw.file, raw.line, "wrong_type", f"a {value.reason}, not a question")
    if isinstance(value, BadRecord):
        return value
    question = text_field(raw, value, "question")
    if isinstance(question, BadRecord):
        return question
    if not question.strip():
        return BadRecord(raw.file, raw.line, "empty_text", "question is blank")
    answers = _answers(raw, value)
    if isinstance(answers, BadRecord):
        return answers
    answers = [answer for answer in answers if answer.strip()]
    if not answers:
        return BadRecord(raw.file, raw.line, "empty_text", "no answer")
    gold, is_regex = _listed(_given(value, "gold_passage_ids", [])), _given(value, "is_regex", False)
    if not isinstance(gold, list) or not isinstance(is_regex, bool):
        return BadRecord(
            raw.file, raw.line, "wrong_type", "gold_passage_ids is not a list, or is_regex not true or false"
        )
    broken = [(answer, fault) for answer in answers if is_regex and (fault := pattern_fault(answer))]
    if broken:
        return BadRecord(raw.file, raw.line, "broken_pattern", f"{broken[0][0]!r}: {broken[0][1]}")
    number = _given(value, "id", _given(value, "question_id", f"{raw.file}:{raw.line}"))
    names = []
    for given in (number, _given(value, "source", ""), *gold):
        name = _plain(raw, given)
        if isinstance(name, BadRecord):
            return name
        names.append(name)
    return Question(names[0], question, tuple(answers), is_regex, tuple(names[2:]), names[1])


def pattern_fault(pattern: str) -> str | None:
    """Return why a regular expression cannot be compiled, None where it can."""
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(pattern, FLAGS)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        return str(error)
    return None


def _given(value: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """Return a field; one that is null, as tables export what is absent, counts as absent."""
    found = value.get(name)
    return otherwise if found is None else found


def _answers(raw: RawRecord, value: Mapping[str, Any]) -> list[str] | BadRecord:
    """Return the answers of a record, each of them text."""
    answers = _given(value, "answers", value.get("answer"))
    if isinstance(answers, Mapping):
        answers = answers.get("aliases", answers.get("text"))
    if answers is None:
        return BadRecord(raw.file, raw.line, "missing_field", "no 'answers'")
    answers = _listed(answers)
    if not isinstance(answers, list):
        return BadRecord(raw.file, raw.line, "wrong_type", "answers is not a list of text")
    texts = []
    for answer in answers:
        text = text_field(raw, {"answers": answer}, "answers")
        if isinstance(text, BadRecord):
            return text
        texts.append(text)
    return texts


def _listed(value: Any) -> Any:
    """Return an array, as TFDS gives them, as a list; anything else as it is."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def _plain(raw: RawRecord, value: Any) -> str | BadRecord:
    """Return an id or a name as text: a whole number is one too, and TFDS gives text as bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_field(raw, {"an id or a source": value}, "an id or a source")


class QuestionRows(NamedTuple):
    """Tokenised questions and which ones they are."""

    question: Rows  # [CLS] question [SEP], [B, L]
    numbers: np.ndarray  # int32 [B], places in the question set


def question_rows(questions: Sequence[Question], tokenizer: Tokenizer, *, query_length: int) -> Rows:
    """Tokenise questions as [CLS] question [SEP]; longer ones lose their end. Rows [B, L]."""
    return pack_texts([q.question for q in questions], tokenizer, length=query_length)


def question_stream(
    questions: Questions,
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    rows: np.ndarray | None = None,
    query_length: int,
    seed: int,
    searched: str = "",
) -> Stream[QuestionRows]:
    """Stream tokenised questions in shuffled order, without end.

    `rows`: which of a batch, None for all; `searched`: hash of the corpus in which their answers are found.
    """
    encoded = question_rows(questions, tokenizer, query_length=query_length)

    def example(index: int, rng: np.random.Generator) -> int:
        del rng
        return index

    def batch(indices: Sequence[int]) -> QuestionRows:
        numbers = np.array(indices, np.int32)
        return QuestionRows(Rows(ids=encoded.ids[numbers], length=encoded.length[numbers]), numbers)

    return build_stream(
        len(questions),
        example,
        batch,
        batch_size=batch_size,
        rows=rows,
        seed=seed,
        dropped=questions.bad_counts,
        recipe={
            "stream": "questions",
            "tokenizer": tokenizer.content_hash,
            "query_length": query_length,
            "questions": questions.content_hash,
            "searched": searched,
        },
    )


class Occurrences(NamedTuple):
    """Where answers stand in candidate bodies."""

    starts: np.ndarray  # int32 [B, K, S]; first token in the body
    stops: np.ndarray  # int32 [B, K, S]; last token, inclusive
    mask: np.ndarray  # bool [B, K, S]; False on padding
    has_answer: np.ndarray  # bool [B, K]; an answer stands in the body, whether or not max_spans left it out


def regex_occurrences(
    corpus: Corpus,
    block_ids: np.ndarray,
    patterns: Sequence[Sequence[str]],
    *,
    matcher: RegexMatcher,
    max_spans: int,
) -> Occurrences:
    """Find where regular expressions match in the texts of candidate blocks.

    It reads and tokenises each block's text, so it is for small question sets and few candidates.

    Args:
      corpus: where the blocks are.
      block_ids: int [B, K]; the null block has no answer.
      patterns: B lists of regular expressions.
      matcher: runs them with a time limit.
      max_spans: S; the first matches in a body are kept.

    Returns:
      Token spans in the bodies that cover the matches.
    """
    found = []  # (b, k, start, stop)
    for (b, k), block_id in np.ndenumerate(block_ids):
        if block_id == NO_BLOCK:
            continue
        body = corpus.text(int(block_id)).body
        ranges = np.array(matcher.search(body, patterns[b]), np.int64).reshape(-1, 2)
        offsets = corpus.tokenizer.encode(body, special_tokens=False).offsets
        start = np.searchsorted(offsets[:, 1], ranges[:, 0], side="right")
        stop = np.searchsorted(offsets[:, 0], ranges[:, 1], side="left") - 1
        found += [(b, k, i, j) for i, j in zip(start.tolist(), stop.tolist(), strict=True) if i <= j]
    hits = np.array(found, np.int64).reshape(-1, 4)
    return _packed_occurrences(hits, shape=block_ids.shape, max_spans=max_spans)


def find_occurrences(
    bodies: np.ndarray,
    answers: Sequence[Sequence[np.ndarray]],
    *,
    max_spans: int,
    is_continuation: np.ndarray,
    unk_id: int,
) -> Occurrences:
    """Find runs of token ids in bodies, as whole words.

    Args:
      bodies: int32 [B, K, L].
      answers: for each row, token ids int [m] of its answers; one that holds [UNK] matches nothing.
      max_spans: S.
      is_continuation: bool [V].
      unk_id: id of [UNK].

    Returns:
      Token spans in order of their start.
    """
    B, K, L = bodies.shape
    word_end = np.ones((B, K, L + 1), bool)  # [..., i]: a word may end before token i
    word_end[..., :L] = ~is_continuation[bodies]
    hits = [np.zeros((0, 4), np.int64)]  # b, k, start, stop
    for b, runs in enumerate(answers):
        distinct = {run.tobytes(): run for run in runs if 0 < len(run) <= L and unk_id not in run}
        for run in distinct.values():
            found = span_starts(bodies[b], run)
            width = len(run)
            found[:, : L + 1 - width] &= word_end[b, :, width:] & word_end[b, :, : L + 1 - width]
            k, start = np.nonzero(found)
            hits.append(np.stack([np.full_like(k, b), k, start, start + width - 1], axis=1))
    return _packed_occurrences(np.concatenate(hits), shape=(B, K), max_spans=max_spans)


def _packed_occurrences(hits: np.ndarray, *, shape: tuple[int, ...], max_spans: int) -> Occurrences:
    """Sort hits (b, k, start, stop) into rows of S, in order of their start."""
    starts, stops = np.zeros((*shape, max_spans), np.int32), np.zeros((*shape, max_spans), np.int32)
    mask, has_answer = np.zeros((*shape, max_spans), bool), np.zeros(shape, bool)
    hits = np.unique(hits, axis=0)
    b, k, start, stop = hits.T
    has_answer[b, k] = True
    row = b * shape[1] + k
    rank = np.arange(len(row)) - np.searchsorted(row, row)  # place among the hits in the same body
    kept = rank < max_spans
    at = b[kept], k[kept], rank[kept]
    starts[at], stops[at], mask[at] = start[kept], stop[kept], True
    return Occurrences(starts, stops, mask, has_answer)
