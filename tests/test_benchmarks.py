"""The benchmarks parse their arguments, and our side of the comparisons runs, at tiny sizes."""

import importlib
import re
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks import our_indexes, ours
from benchmarks.sizes import MASK, RawCorpus, Size, step_tokens
from benchmarks.turns import Side, Took, ratio, take_turns
from benchmarks.vectors import read_vectors, recall, write_vectors
from realm_jax.data.corpus import Corpus
from tests.tiny_run import quick_compilation

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "turns",
    "sizes",
    "vectors",
    "ours",
    "port",
    "our_indexes",
    "other_indexes",
    "port_models",
}  # no commands
COMMANDS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in PARTS)
TINY = Size(
    hidden=8,
    layers=1,
    dropout=0.0,
    heads=2,
    intermediate=16,
    vocabulary=200,
    embedding=4,
    batch=2,
    candidates=3,
    query_length=8,
    block_length=16,
    masks=2,
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_help(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # as for a script that is run by its path
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    assert module.__doc__.splitlines()[0] in capsys.readouterr().out


SMALL = {
    "gather": "--random 60 --blocks 8 --repeats 2",
    "prepare": "--corpus {documents} --vocabulary {corpus}/vocab.txt --repeats 1",
    "embedding": "--corpus {corpus} --blocks 8 --batch 4 --hidden 8 --layers 1 --heads 2 --rounds 1",
    "beam": "--corpus {corpus} --questions {questions} --beam 6 --batch 4 --batches 2",
    "index": "--blocks 60 --engines exact scann --queries 4 --repeats 2 --dimension 8",
    "ahead": "--corpus {corpus} --engine exact --hidden 8 --batch 2 --steps 2 --turns 1",
}


@pytest.mark.parametrize("name", SMALL)
def test_a_command_that_needs_no_peer_measures(name, monkeypatch, capsys, tiny_runs):
    if name == "index":
        pytest.importorskip("scann", reason="ScaNN has no wheel for this platform")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    arguments = SMALL[name].format(**tiny_runs._asdict()).split()
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with quick_compilation():
        importlib.import_module(f"benchmarks.{name}").main()
    said = capsys.readouterr().out
    assert re.search(r"\d\.\d", said) and "nan" not in said


@pytest.mark.parametrize("name", sorted(PARTS))
def test_every_part_can_be_imported_without_the_peers(name):
    assert importlib.import_module(f"benchmarks.{name}").__doc__


def test_a_step_of_ours_runs_again_and_again():
    with quick_compilation():
        step, said = ours.pretraining(asdict(TINY), dtype="float32")
        step()
    # Untrained, every word is about as likely as any other.
    assert said["first_loss"] == pytest.approx(np.log(TINY.vocabulary), abs=0.5)


def test_both_sides_get_the_same_full_rows():
    tokens = step_tokens(TINY)
    assert (np.take_along_axis(tokens.queries, tokens.positions, axis=1) == MASK).all()
    candidates = ours.candidates_of(tokens)
    assert (
        candidates.is_valid.all() and candidates.is_null[:, 0].all() and not candidates.is_null[:, 1:].any()
    )
    assert (candidates.blocks.body.length[:, 1:] == TINY.block_length).all()
    np.testing.assert_array_equal(candidates.blocks.body.ids[:, 1:, :-1], tokens.bodies)


def test_blocks_are_embedded_and_questions_answered(tiny_runs):
    size, corpus = asdict(TINY), str(tiny_runs.corpus)
    with quick_compilation():
        for run, said in (
            ours.embedding(size, dtype="float32"),
            ours.corpus_embedding(size, dtype="bfloat16", corpus=corpus, blocks=5, batch=4),
        ):
            run()
            assert said["blocks"] in (TINY.batch * (TINY.candidates - 1), 5)
        answer, said = ours.answering(
            size, dtype="bfloat16", corpus=corpus, questions=["Where?", "When?", "Who?"], batch=2
        )
        answer()
    assert said == {"questions": 3}


def test_a_corpus_is_read_without_realm_jax_as_with_it(tiny_runs):
    raw, corpus = RawCorpus(str(tiny_runs.corpus)), Corpus.open(tiny_runs.corpus)
    assert len(raw) == len(corpus)
    for block_id in range(len(corpus)):
        assert raw.body(block_id).decode() == corpus.text(block_id).body
        blocks = corpus.gather(np.array([block_id]))
        rows = [part.ids[0, : part.length[0]] for part in (blocks.title, blocks.body)]
        np.testing.assert_array_equal(raw.row(block_id), np.concatenate(rows))


def test_the_exact_engine_finds_the_best_rows(tmp_path):
    write_vectors(tmp_path, count=200, queries=7, dimension=8, k=3)
    run, said = our_indexes.search("exact", str(tmp_path))
    run()
    assert said["recall"] == 1.0


def test_vectors_may_be_those_of_an_index(tmp_path):
    rows = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    np.save(tmp_path / "embeddings.npy", rows)
    embeddings = str(tmp_path / "embeddings.npy")
    write_vectors(tmp_path, count=0, queries=5, dimension=0, k=2, embeddings=embeddings)
    found, queries, best = read_vectors(str(tmp_path))
    np.testing.assert_array_equal(found, rows)
    wanted = np.argsort(-(queries @ rows.T), axis=1)[:, :2]
    assert recall(wanted, best) == 1.0
    assert recall(wanted[:, :1], best) == 0.5


def test_a_side_answers_in_turns_until_it_fails():
    with Side("tests.side", python=sys.executable, threads=1) as side:
        assert side.prepare("counter", label="low", start=0) == {"from": 0}
        assert side.prepare("counter", start=7) == {"from": 7}
        took = take_turns({"low": lambda: side.run("low"), "high": lambda: side.run("counter")}, repeats=2)
        assert {name: len(rows) for name, rows in took.items()} == {"low": 2, "high": 2}
        assert all(isinstance(one, Took) and one.seconds >= 0 for rows in took.values() for one in rows)
        with pytest.raises(SystemExit, match="tests.side ended"):
            side.run("low")


def test_ratios_are_of_medians_and_of_neighbours():
    assert ratio([2.0, 4.0, 9.0], [1.0, 1.0, 3.0]) == (4.0, 2.0, 4.0)
