"""Tiny runs, ICT to fine-tuning, trained for a few steps: session fixtures for the tests of use.

tests/conftest.py makes `tiny_runs` known everywhere; what it needs is imported when it is first asked for.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from realm_jax.config import (
    BertConfig,
    Config,
    IctConfig,
    IndexConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    QaConfig,
    RealmConfig,
    RefreshConfig,
    ShapeConfig,
)

CACHE_ALL = {  # of compiled programs, however small
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
CAPITALS = {
    "Peru": "Lima",
    "Norway": "Oslo",
    "Egypt": "Cairo",
    "Ecuador": "Quito",
    "Italy": "Rome",
    "France": "Paris",
    "Japan": "Tokyo",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
    "Chile": "Santiago",
    "Greece": "Athens",
    "Ireland": "Dublin",
}


class TinyRuns(NamedTuple):
    """Where everything is."""

    corpus: Path
    documents: Path  # JSONL
    questions: Path  # JSONL
    ict: Path
    realm: Path
    qa: Path


def documents() -> list[dict[str, str]]:
    """One document, and one block, a country."""
    return [
        {
            "id": f"doc-{country}",
            "title": country,
            "text": f"The capital of {country} is {capital}. Travellers know {country} for its rivers. "
            f"In {1900 + 3 * i} many people moved to {capital}.",
        }
        for i, (country, capital) in enumerate(CAPITALS.items())
    ]


def questions() -> list[dict[str, object]]:
    """One question a country; every third asked by another source."""
    rows: list[dict[str, object]] = [
        {
            "id": f"q-{country}",
            "question": f"What is the capital of {country}?",
            "answers": [capital],
            "source": "nq_dev" if i % 3 else "squad_dev",
            "gold_passage_ids": [f"doc-{country}"],
        }
        for i, (country, capital) in enumerate(CAPITALS.items())
    ]
    return rows


def config(folder: Path) -> Config:
    """A model that trains in seconds."""
    rate = OptimizerConfig(learning_rate=1e-3)
    return Config(
        name="tiny",
        corpus=str(folder / "corpus"),
        train_questions=str(folder / "questions.jsonl"),
        dev_questions=str(folder / "questions.jsonl"),
        model=ModelConfig(
            bert=BertConfig(
                hidden_size=32,
                num_layers=1,
                num_heads=2,
                intermediate_size=64,
                max_positions=96,
                dropout=0.0,
            ),
            embedding_size=16,
            span_hidden_size=16,
            max_span_width=4,
        ),
        shapes=ShapeConfig(query_length=24, block_length=64, joint_length=72, max_masks=4, candidates=4),
        mesh=MeshConfig(data=1),  # tests see eight devices
        ict=IctConfig(steps=4, batch_size=4, optimizer=rate),
        realm=RealmConfig(steps=5, batch_size=4, optimizer=rate),
        qa=QaConfig(steps=4, batch_size=4, optimizer=rate, candidates=3),
        index=IndexConfig(engine="exact", embed_batch_size=8, extra=4),
        refresh=RefreshConfig(every=2, worker="inline", probes=4),
    )


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Compile without optimising: these programs run for a few steps only."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of compiled programs, which all processes that test have in common."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "programs"


@contextmanager
def compiled_once(programs: Path) -> Iterator[None]:
    """Compile each program quickly and once: every run makes its functions anew.

    Args:
      programs: folder of those that are compiled.
    """
    settings = {"jax_compilation_cache_dir": str(programs), **CACHE_ALL}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    try:
        with quick_compilation():
            yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def write_jsonl(path: Path, rows: list[dict[str, object]] | list[dict[str, str]]) -> Path:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_runs(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyRuns:
    """Corpus, questions, and a run of ICT, REALM and fine-tuning each."""
    from realm_jax.data.prepare import prepare
    from realm_jax.runs.ict import run_ict
    from realm_jax.runs.qa import run_qa
    from realm_jax.runs.realm import run_realm

    folder = tmp_path_factory.mktemp("tiny")
    source = write_jsonl(folder / "documents.jsonl", documents())
    asked = write_jsonl(folder / "questions.jsonl", questions())
    prepare([source], folder / "corpus", vocab_size=200, max_block_tokens=60, title_tokens=8, workers=1)
    made, runs = (
        config(folder),
        TinyRuns(folder / "corpus", source, asked, *(folder / name for name in ("ict", "realm", "qa"))),
    )
    with compiled_once(programs):
        # REALM alone takes steps, so that its index is older than its parameters; compiling costs too much.
        run_ict(made, runs.ict, stop_at=0)
        run_realm(made, runs.realm, start_from=runs.ict)
        run_qa(made, runs.qa, start_from=runs.realm, stop_at=0)
    return runs
