"""A small corpus for the tests of data."""

import json
from pathlib import Path

import numpy as np
import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.data.questions import Occurrences, find_occurrences

CITIES = {
    "Paris": "France",
    "Lima": "Peru",
    "Oslo": "Norway",
    "Cairo": "Egypt",
    "Quito": "Ecuador",
    "Rome": "Italy",
}


def records(count: int) -> list[dict[str, object]]:
    """Make documents of different lengths, with dates, names and numbers, some of them titled alike."""
    found = []
    for i in range(count):
        city, country = list(CITIES.items())[i % len(CITIES)]
        sentences = [
            f"The capital of {country} is {city}.",
            f"In {1900 + i} it had {i + 2},500 people.",
            "Nobody knows why!",
            f"Dr. Jones went to {city} on 4 July {1950 + i}.",
            "Many rivers flow there, and boats sail on the caf\u00e9-lined banks.",
        ]
        found.append({"id": i, "title": city, "text": " ".join(sentences[: 1 + i % 5] * (1 + i % 3))})
    return found


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def answer_occurrences(
    corpus: Corpus, block_ids: np.ndarray, answers: list[list[str]], *, max_spans: int
) -> Occurrences:
    """Find the wordpieces of B lists of answers in the bodies of blocks `[B, K]`, as whole words."""
    tokenizer = corpus.tokenizer
    runs = [[run.ids for run in tokenizer.encode_batch(texts, special_tokens=False)] for texts in answers]
    return find_occurrences(
        corpus.gather(block_ids).body.ids,
        runs,
        max_spans=max_spans,
        is_continuation=tokenizer.is_continuation,
        unk_id=tokenizer.unk_id,
    )


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("source") / "docs.jsonl", records(60))


@pytest.fixture(scope="session")
def corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """60 documents in blocks of at most 39 wordpieces."""
    out = tmp_path_factory.mktemp("corpus") / "prepared"
    prepare([source], out, vocab_size=300, max_block_tokens=40, title_tokens=8)
    return Corpus.open(out)
