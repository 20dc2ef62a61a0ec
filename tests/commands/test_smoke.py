"""--smoke: every experiment of the paper runs, tiny, with the code of the real one."""

import dataclasses
import json
import math
from pathlib import Path

from realm_jax.cli import main
from realm_jax.commands.smoke import STEPS, TEXTS, shrink, write_texts
from realm_jax.commands.training import Pretrain, changes, load_experiment, parse_training
from realm_jax.config import Config, IndexConfig, PhaseConfig, QaConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Questions
from tests.test_experiments import EXPERIMENTS, FILES, commands_of, each_experiment
from tests.tiny_run import compiled_once

PLACES = ("corpus", "text", "train_questions", "dev_questions")
PHASES = {"ict": "ict", "read": "read", "pretrain": "realm", "finetune": "qa"}  # of a command
SMALL = ("quickstart", "wiki_")  # begin the names of those that are small as they are


@each_experiment
def test_shrinking_changes_sizes_and_places_alone_and_twice_is_once(path):
    config = load_experiment(path)
    small = shrink(config, folder=Path("folder"))
    assert shrink(small, folder=Path("folder")) == small
    for name, value in changes(small, config):
        assert name in (*PLACES, "index.recall_floor") or type(value) is int, name
    for phase in PHASES.values():
        settings: PhaseConfig = getattr(small, phase)
        assert settings.steps <= STEPS and settings.batch_size <= 4
    longest = max(small.shapes.query_length, small.shapes.block_length, small.shapes.joint_length)
    assert longest <= small.model.bert.max_positions


def test_what_has_a_meaning_at_zero_stays_zero():
    small = shrink(Config(), folder=Path("x"))
    assert small.text == "" and small.model.vocab_size == 0
    assert small.model.embedder_bert.hidden_size == 0, "the embedder is as large as the encoder"
    assert (small.realm.candidates, small.realm.evidence_pool, small.qa.beam) == (0, 0, 0)
    beam = dataclasses.replace(Config(), qa=QaConfig(beam=5000, loss="orqa"), index=IndexConfig(extra=0))
    assert shrink(beam, folder=Path("x")).qa.beam == 16 and shrink(beam, folder=Path("x")).index.extra == 0


def test_the_texts_fit_and_are_the_same_wherever_they_are_written(tmp_path):
    for name in ("one", "two"):
        write_texts(tmp_path / name)
    one, two = (Corpus.open(tmp_path / name / "corpus") for name in ("one", "two"))
    text = Corpus.open(tmp_path / "one/text")
    assert one.content_hash == two.content_hash
    assert text.tokenizer.content_hash == one.tokenizer.content_hash != ""
    before = (tmp_path / "one/corpus/manifest.json").stat().st_mtime_ns
    write_texts(tmp_path / "one")
    assert (tmp_path / "one/corpus/manifest.json").stat().st_mtime_ns == before
    blocks = " ".join(one.text(i).body for i in range(len(one)))
    for name in ("questions", "questions_curatedtrec"):
        questions = Questions.load(tmp_path / f"one/{name}.jsonl")
        assert len(questions) >= 18 and not questions.bad_records
    assert all(
        answer in blocks for q in Questions.load(tmp_path / "one/questions.jsonl") for answer in q.answers
    )


def test_single_values_can_be_set_on_a_tiny_run(tmp_path):
    words = ["--workdir", str(tmp_path), "--experiment", str(EXPERIMENTS / "realm_wiki.py"), "--smoke"]
    options = parse_training(Pretrain, [*words, "--realm.steps", "2"], prog="p", examples="")
    assert options.smoke and options.config.realm.steps == 2
    assert options.config.corpus == str(tmp_path / TEXTS / "corpus")
    assert options.config.refresh.worker == "thread", "choices are the experiment's"


def tiny(words: list[str], folder: Path) -> list[str]:
    """Turn a command of an experiment into its tiny version, whose runs lie in a folder.

    A run that it would start from is left out where it has not been made.
    """
    kept: list[str] = []
    options = iter(words)
    for word in options:
        if word in ("--start-from", "--encoder-from"):
            before = folder / next(options)
            kept += [word, str(before)] if before.is_dir() else []
        elif word == "--workdir":
            kept += [word, str(folder / next(options))]
        else:
            kept.append(str(EXPERIMENTS.parent / word) if word.endswith(".py") else word)
    return [*kept, "--smoke"]


def test_every_experiment_runs_tiny(tmp_path, programs, subtests, capsys):
    """The chain of the paper comes first, so that what starts from a run of it finds it."""
    chain = ["ict_wiki", "realm_wiki", "openqa_nq"]
    names = [path.stem for path in FILES if not path.stem.startswith(SMALL) and path.stem not in chain]
    assert len(names) >= 10
    for name in [*chain, *names]:
        own = f"experiments/{name}.py"
        lines = [line for line in commands_of(EXPERIMENTS / f"{name}.py") if line[0] == "realm_jax"]
        (words,) = [line[1:] for line in lines if own in line]
        with compiled_once(programs), subtests.test(name):  # they differ in what the host does, mostly
            # Adopted when ready, a new index may come after the last of so few steps.
            lag = ["--refresh.adoption", "at_lag", "--refresh.lag", "1"] if words[0] == "pretrain" else []
            assert main([*tiny(words, tmp_path), *lag]) == 0, capsys.readouterr().err
            workdir = tmp_path / words[words.index("--workdir") + 1]
            assert json.loads((workdir / "config.json").read_text())["name"] == name
            metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
            assert [line["step"] for line in metrics] == list(range(1, STEPS + 1))
            assert any("loss" in line for line in metrics), "a batch of one question may have no answer"
            assert all(math.isfinite(value) for line in metrics for value in line.values())
            assert (workdir / "checkpoints" / str(STEPS)).is_dir()
            if words[0] == "pretrain":
                assert metrics[-1]["index_version"] > 0, "a refreshed index was adopted"
