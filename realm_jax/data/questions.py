"""Open-domain question sets, and where their answers stand in blocks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.records import BadRecord, RawRecord, parse_json, text_field
from realm_jax.data.sources import JsonLines
from realm_jax.data.stream import Stream, build_stream
from realm_jax.errors import CorpusError
from realm_jax.text.answers import span_starts
from realm_jax.text.packing import framed, pack_rows
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.types import Rows


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
    def load(cls, path: str | Path, *, strict: bool = False) -> "Questions":
        """Read {"question", "answers", optional "id", "is_regex", "gold_passage_ids", "source"} by line.

        Args:
          path: .jsonl or .jsonl.gz.
          strict: stop at the first bad record; otherwise they are counted and left out.

        Raises:
          CorpusError: the file cannot be read, holds no question, or, with `strict`, a record is bad.
        """
        path = Path(path)
        if not path.is_file():
            raise CorpusError("A question set is a .jsonl or .jsonl.gz file", got=str(path),
                              remedy="Check the path.")
        items: list[Question] = []
        bad: list[BadRecord] = []
        for raw in JsonLines(path).records():
            parsed = parse_question(raw)
            if isinstance(parsed, Question):
                items.append(parsed)
            elif strict:
                raise parsed.error()
            else:
                bad.append(parsed)
        if not items:
            raise CorpusError("A question set holds questions", got=str(bad[0]) if bad else f"none in {path}",
                              remedy="Check the file.")
        return cls(tuple(items), dict(Counter(record.reason for record in bad)), tuple(bad))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


def parse_question(raw: RawRecord) -> Question | BadRecord:
    """Turn a record into a question, or say what is wrong with it."""
    value = parse_json(raw)
    if isinstance(value, BadRecord):
        return value
    question = text_field(raw, value, "question")
    if isinstance(question, BadRecord):
        return question
    if not question.strip():
        return BadRecord(raw.file, raw.line, "empty_text", "question is blank")
    answers = value.get("answers")
    if answers is None:
        return BadRecord(raw.file, raw.line, "missing_field", "no 'answers'")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        return BadRecord(raw.file, raw.line, "wrong_type", "answers is not a list of text")
    answers = [answer for answer in answers if answer.strip()]
    if not answers:
        return BadRecord(raw.file, raw.line, "empty_text", "no answer")
    gold, is_regex = value.get("gold_passage_ids", []), value.get("is_regex", False)
    if not isinstance(gold, list) or not isinstance(is_regex, bool):
        return BadRecord(raw.file, raw.line, "wrong_type",
                         "gold_passage_ids is not a list, or is_regex not true or false")
    return Question(str(value.get("id", f"{raw.file}:{raw.line}")), question, tuple(answers), is_regex,
                    tuple(str(i) for i in gold), str(value.get("source", "")))


class QuestionRows(NamedTuple):
    """Tokenised questions and which ones they are."""

    question: Rows  # [CLS] question [SEP], [B, L]
    numbers: np.ndarray  # int32 [B], places in the question set


def question_rows(questions: Sequence[Question], tokenizer: Tokenizer, *, query_length: int) -> Rows:
    """Tokenise questions as [CLS] question [SEP]; longer ones lose their end. Rows [B, L]."""
    encodings = tokenizer.encode_batch([q.question for q in questions])
    return pack_rows([framed(e.ids, length=query_length, cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id)
                      for e in encodings], length=query_length)


def question_stream(
    questions: Questions, tokenizer: Tokenizer, *, batch_size: int, query_length: int, seed: int
) -> Stream[QuestionRows]:
    """Stream tokenised questions in shuffled order, without end."""
    rows = question_rows(questions, tokenizer, query_length=query_length)

    def example(index: int, rng: np.random.Generator) -> int:
        del rng
        return index

    def batch(indices: Sequence[int]) -> QuestionRows:
        numbers = np.array(indices, np.int32)
        return QuestionRows(Rows(ids=rows.ids[numbers], length=rows.length[numbers]), numbers)

    return build_stream(
        len(questions), example, batch, batch_size=batch_size, seed=seed, dropped=questions.bad_counts,
        recipe={"stream": "questions", "tokenizer": tokenizer.content_hash, "query_length": query_length,
                "first": questions[0].question})


class Occurrences(NamedTuple):
    """Where answers stand in candidate bodies."""

    starts: np.ndarray  # int32 [B, K, S]; first token in the body
    stops: np.ndarray  # int32 [B, K, S]; last token, inclusive
    mask: np.ndarray  # bool [B, K, S]; False on padding
    has_answer: np.ndarray  # bool [B, K]; an answer stands in the body, whether or not max_spans left it out


def answer_occurrences(
    corpus: Corpus,
    tokenizer: Tokenizer,
    block_ids: np.ndarray,
    answers: Sequence[Sequence[str]],
    *,
    max_spans: int,
) -> Occurrences:
    """Find the answers' wordpieces in the bodies of candidate blocks, as whole words.

    Args:
      corpus: where the blocks are.
      tokenizer: of that corpus.
      block_ids: int [B, K]; the null block has no answer.
      answers: B lists of answers, none a regular expression.
      max_spans: S; the first occurrences in a body are kept.

    Returns:
      Token spans in the bodies.
    """
    body = corpus.gather(block_ids).body
    runs = [[run.ids for run in tokenizer.encode_batch(texts, special_tokens=False)] for texts in answers]
    return find_occurrences(body.ids, runs, max_spans=max_spans, is_continuation=tokenizer.is_continuation,
                            unk_id=tokenizer.unk_id)


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
    starts, stops = np.zeros((B, K, max_spans), np.int32), np.zeros((B, K, max_spans), np.int32)
    mask = np.zeros((B, K, max_spans), bool)
    has_answer = np.zeros((B, K), bool)
    for b, runs in enumerate(answers):
        distinct = {run.tobytes(): run for run in runs if len(run) and unk_id not in run}
        hits = []  # (k, start, stop)
        for run in distinct.values():
            found = span_starts(bodies[b], run)
            width = len(run)
            found[:, : L + 1 - width] &= word_end[b, :, width:] & word_end[b, :, : L + 1 - width]
            k, start = np.nonzero(found)
            hits.append(np.stack([k, start, start + width - 1], axis=1))
        spans = np.concatenate([np.zeros((0, 3), np.int64), *hits])
        spans = spans[np.lexsort((spans[:, 2], spans[:, 1], spans[:, 0]))]
        k = spans[:, 0]
        has_answer[b, k] = True
        rank = np.arange(len(k)) - np.searchsorted(k, k)  # place among the spans of the same block
        spans, k, rank = spans[rank < max_spans], k[rank < max_spans], rank[rank < max_spans]
        starts[b, k, rank], stops[b, k, rank], mask[b, k, rank] = spans[:, 1], spans[:, 2], True
    return Occurrences(starts, stops, mask, has_answer)
