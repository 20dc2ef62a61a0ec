"""A corpus of a dozen blocks, a config for it, and programs that are compiled once for all runs."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from realm_jax.config import BertConfig, Config, ModelConfig, RefreshConfig
from realm_jax.data.prepare import prepare
from tests.tiny_run import compiled_once, config, documents, write_jsonl

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus `corpus`."""
    folder = tmp_path_factory.mktemp("prepared")
    source = write_jsonl(folder / "documents.jsonl", documents())
    prepare([source], folder / "corpus", vocab_size=200, max_block_tokens=60, title_tokens=8, workers=1)
    return folder


@pytest.fixture(scope="session")
def make_config(prepared: Path) -> MakeConfig:
    """Make the config of a run of 9 steps, with dropout; keywords are those of `RefreshConfig`.

    Another number of steps is another schedule, and another program to compile: use `stop_at`.
    """

    def make(**refresh: object) -> Config:
        base = config(prepared)
        bert = BertConfig(
            hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, max_positions=96, dropout=0.1
        )
        return dataclasses.replace(
            base,
            model=ModelConfig(bert=bert, embedding_size=16, span_hidden_size=16, max_span_width=4),
            realm=dataclasses.replace(base.realm, steps=9, log_every=1),
            refresh=RefreshConfig(**{"every": 3, "probes": 4, **refresh}),
        )

    return make


@pytest.fixture(scope="package", autouse=True)
def runs_share_programs(programs: Path) -> Iterator[None]:
    """Runs with the same settings share what is compiled."""
    with compiled_once(programs):
        yield
