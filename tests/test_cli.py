"""The command line: help, errors, and every use of a run, through `main`."""

import errno
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import jax
import pytest

from realm_jax.cli import COMMANDS, main
from realm_jax.errors import RefreshError
from tests.tiny_run import TinyRuns


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


def help_of(name: str, capsys) -> str:
    with pytest.raises(SystemExit) as ending:
        main([name, "--help"])
    assert not ending.value.code
    return capsys.readouterr().out


def test_without_a_command_the_commands_are_listed(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert main([]) == 2
    assert main(["fly"]) == 2
    assert "no command 'fly'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_the_command_ends_with_examples_and_leaves_no_option_unexplained(name, capsys):
    shown = help_of(name, capsys)
    assert re.match(rf"usage: realm_jax {name} .*\n\n[A-Z].*\.", shown)
    examples = shown.split("examples:\n")[1].splitlines()
    assert any(line.startswith(f"  realm_jax {name} ") for line in examples)
    body = re.sub(r"[│╭╰╮╯─]", " ", shown.split("examples:\n")[0])
    options = re.split(r"\n\s+(?=--[a-z]|-h,)", body)[1:]
    assert options
    for option in options:
        first, *rest = re.split(r"\s{2,}|\n", option.strip(), maxsplit=1)
        text = re.sub(r"\((default|required).*", "", " ".join(rest), flags=re.S).strip()
        assert len(text) > 3, f"{first} is not explained"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_are_accepted_arguments(name, capsys, tmp_path, monkeypatch):
    """Each example of this command parses: what fails is that its files are not there."""
    monkeypatch.chdir(tmp_path)
    examples = help_of(name, capsys).split("examples:\n")[1].splitlines()
    own = [line.split("realm_jax ")[1] for line in examples if line.startswith(f"  realm_jax {name} ")]
    for line in own:
        words = shlex.split(line.split(" < ")[0])
        if name == "import" and not words[1].startswith("."):
            continue  # a name on the hub
        if name == "ask" and "<" in line:
            monkeypatch.setattr("sys.stdin", iter(["who?"]))
        assert main(words) == 2
        assert f"realm_jax {name}: " in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_no_type_of_the_program(name, capsys):
    """What may be left out is no {None}, and what happens then is said in words."""
    shown = help_of(name, capsys)
    assert "None" not in shown.split("examples:\n")[0]


def test_embed_has_no_choice_about_what_it_does(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["embed", "run", "--fresh-index"])
    assert ending.value.code == 2
    assert "fresh" in capsys.readouterr().err


def test_wrong_arguments_end_with_2_and_no_traceback(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["ict", "--workdir", "x", "--ict.stepps", "3"])
    assert ending.value.code == 2
    shown = capsys.readouterr()
    assert "--ict.steps" in shown.out + shown.err
    assert main(["ict", "--workdir", "x", "--model.bert.num-heads", "7"]) == 2
    assert "num_heads must divide" in capsys.readouterr().err


def test_broken_rules_are_one_message_on_standard_error(tiny_runs: TinyRuns, tmp_path, capsys):
    qa, nowhere = str(tiny_runs.qa), str(tmp_path / "nowhere")
    for words, message in (
        (["ask", nowhere, "who?"], "checkpoints"),
        (["ask", qa, " "], "question"),
        (["ask", str(tiny_runs.realm), "who?"], "fine-tuned"),
        (["fill", qa, "no mask"], "MASK"),
        (["retrieve", qa, " "], "needs a text"),
        (["evaluate", qa], "questions or batches"),
        (["evaluate", qa, "--questions", "dev", "--candidates", "0"], "at least 1 block"),
        (["evaluate", qa, "--questions", "dev", "--batch-size", "0"], "at least 1 row"),
        (["fill", qa, "[MASK]", "--candidates", "0"], "at least 1 candidate"),
        (["fill", qa, "[MASK]", "--top", "0"], "at least 1 wordpiece"),
        (["retrieve", qa, "Peru", "--k", "0"], "at least 1 block"),
        (["evaluate", qa, "--questions", nowhere], "question set"),
        (["evaluate", qa, "--corpus", nowhere, "--questions", "dev"], "prepared corpus"),
        (["evaluate", qa, "--questions", "dev", "--step", "77"], "step 77"),
        (["export", qa, "--out", nowhere], "architecture"),
        (["import", str(tmp_path), "--workdir", nowhere], "config.json"),
        (["finetune", "--workdir", nowhere, "--experiment", nowhere], "Python file"),
        (["finetune", "--workdir", nowhere, "--start-from", str(tmp_path)], "--start-from names"),
        (["ict", "--workdir", nowhere], "--corpus"),
        (["vocabulary", "--out", nowhere], "trained on texts"),
        (["prepare", nowhere, "--out", nowhere, "--vocab-size", "100"], "source"),
    ):
        assert main(words) == 2, words
        shown = capsys.readouterr()
        assert message in shown.err and shown.err.startswith(f"realm_jax {words[0]}: ")
        assert "Traceback" not in shown.err
    assert not (tmp_path / "nowhere").exists()


def test_a_vocabulary_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    source = tmp_path / "a.txt"
    source.write_text("the river and the sea and the river " * 20)

    def cut_short(self, path):
        Path(path).write_bytes(b"[PAD]\n[UN")
        raise KeyboardInterrupt

    monkeypatch.setattr("realm_jax.text.tokenizer.Tokenizer.save", cut_short)
    words = ["vocabulary", str(source), "--out", str(tmp_path / "out" / "vocab.txt"), "--size", "100"]
    assert main(words) == 130
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    assert main(words) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vocab.txt"]


@pytest.mark.parametrize(
    ("number", "rule", "remedy"),
    [
        (errno.ENOSPC, "has room", "another disk"),
        (errno.ENOTDIR, "where it is named", "another name"),
        (errno.EROFS, "write to its folders", "another path"),
        (errno.EACCES, "write to its folders", "another path"),
    ],
)
def test_a_disk_that_is_full_or_closed_is_one_message(monkeypatch, capsys, number, rule, remedy):
    def fails(*arguments, **settings):
        raise OSError(number, os.strerror(number), "out/bodies.bin")

    monkeypatch.setattr("realm_jax.commands.text.prepare_corpus", fails)
    assert main(["prepare", "a.jsonl", "--out", "b", "--vocab-size", "100"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("realm_jax prepare: ") and shown.count("\n") == 1
    assert rule in shown and f"out/bodies.bin: {os.strerror(number)}" in shown and remedy in shown


@pytest.mark.parametrize(
    "error", [jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nat x"), MemoryError()]
)
def test_what_does_not_fit_in_memory_is_one_message(monkeypatch, capsys, error):
    def fails(*arguments, **settings):
        raise error

    monkeypatch.setattr("realm_jax.commands.text.prepare_corpus", fails)
    assert main(["prepare", "a.jsonl", "--out", "b", "--vocab-size", "100"]) == 2
    shown = capsys.readouterr().err
    assert "fits in memory" in shown and "smaller batches" in shown and shown.count("\n") == 1


def test_another_fault_of_the_system_keeps_its_traceback(monkeypatch):
    def fails(*arguments, **settings):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("realm_jax.commands.text.prepare_corpus", fails)
    with pytest.raises(OSError, match="Input/output"):
        main(["prepare", "a.jsonl", "--out", "b", "--vocab-size", "100"])


def test_a_pipeline_without_beam_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "realm_jax.data.pipeline", raising=False)
    words = ["prepare", "a.jsonl", "--out", "b", "--vocab-size", "100"]
    assert main([*words, "--beam", ""]) == 2
    assert "requirements-beam.txt" in capsys.readouterr().err
    assert main([*words, "--beam-folder", "c"]) == 2
    assert "Give --beam too" in capsys.readouterr().err


def test_ctrl_c_ends_with_one_line(monkeypatch, capsys):
    def interrupted(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("realm_jax.commands.text.prepare_corpus", interrupted)
    assert main(["prepare", "a.jsonl", "--out", "b", "--vocab-size", "100"]) == 130
    assert capsys.readouterr().err == "realm_jax prepare: interrupted\n"


def test_a_failure_of_the_refresher_is_shown_with_its_own_traceback(monkeypatch, tmp_path, capsys):
    def embed_the_seventh_block(*arguments, **settings):
        raise OSError("the disk is full")

    def run(*arguments, **settings):
        try:
            embed_the_seventh_block()
        except OSError as error:
            raise RefreshError("a refresh must succeed", got="it did not", remedy="See above.") from error

    monkeypatch.setattr("realm_jax.runs.realm.run_realm", run)
    assert main(["pretrain", "--workdir", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "in embed_the_seventh_block" in shown and "OSError: the disk is full" in shown
    assert shown.endswith("realm_jax pretrain: a refresh must succeed, but got it did not. See above.\n")


def test_all_bad_records_are_named_in_a_file(tiny_runs: TinyRuns, tmp_path, capsys):
    """Among them one in a file whose name is no text."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for i in range(25):
        (folder / f"{i:02}.txt").write_bytes(b"\xff")
    (folder / "good.txt").write_bytes(b"A text.")
    Path(os.fsdecode(bytes(folder) + b"/\xff.txt")).write_bytes(b"A text.")
    out = tmp_path / "corpus"
    assert main(["prepare", str(folder), "--out", str(out), "--tokenizer", str(tiny_runs.corpus)]) == 0
    shown = capsys.readouterr().out
    assert "26 invalid_utf8" in shown and "00.txt:1: invalid_utf8" in shown
    assert f"and 6 more, all in {out}/bad_records.jsonl" in shown
    rows = [json.loads(line) for line in (out / "bad_records.jsonl").read_text().splitlines()]
    assert len(rows) == 26 and os.fsencode(rows[-1]["file"]).endswith(b"/\xff.txt")


def test_questions_that_are_left_out_are_named(tiny_runs: TinyRuns, tmp_path, capsys):
    asked = tmp_path / "asked.jsonl"
    asked.write_text(tiny_runs.questions.read_text() + json.dumps({"question": "who?"}) + "\n")
    words = ["evaluate", str(tiny_runs.qa), "--questions", str(asked), "--retriever", "bm25", "--ks", "1"]
    assert main([*words, "--reader", "False", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "12 questions (1 left out)" in " ".join(shown.out.split())
    assert "asked.jsonl:13: missing_field" in shown.err


def test_a_question_set_without_answers_is_refused(tiny_runs: TinyRuns, tmp_path, capsys):
    asked = tmp_path / "asked.jsonl"
    asked.write_text(json.dumps({"question": "who?"}) + "\n")
    assert main(["evaluate", str(tiny_runs.qa), "--questions", str(asked)]) == 2
    assert "asked.jsonl:1" in capsys.readouterr().err


def test_texts_become_a_vocabulary_and_a_corpus(tiny_runs: TinyRuns, tmp_path, capsys):
    source, vocabulary = str(tiny_runs.documents), str(tmp_path / "vocab.txt")
    assert main(["vocabulary", source, "--out", vocabulary, "--size", "150"]) == 0
    assert main(["vocabulary", source, "--out", vocabulary]) == 2, "it exists"
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"title": "x"}\n{"title": "y", "text": "A text."}\n')
    out = str(tmp_path / "corpus")
    capsys.readouterr()
    assert main(["prepare", str(bad), "--out", out, "--tokenizer", vocabulary, "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "1 blocks from 1 documents" in shown and "1 missing_field" in shown and "bad.jsonl:1" in shown
    assert main(["prepare", source, "--out", out, "--tokenizer", vocabulary]) == 2, "it exists"
    words = ["prepare", str(bad), "--out", f"{out}2", "--tokenizer", vocabulary, "--strict"]
    assert main(words) == 2 and "bad.jsonl:1" in capsys.readouterr().err


def test_questions_are_answered_in_json_and_for_people(tiny_runs: TinyRuns, capsys, monkeypatch):
    question = "What is the capital of Peru?"
    assert main(["ask", str(tiny_runs.qa), question, "--retriever", "bm25", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["question"] == question and answer["evidence"][0]["title"] == "Peru"
    monkeypatch.setattr("sys.stdin", iter([question + "\n", "\n", "Tokyo?\n"]))
    assert main(["ask", str(tiny_runs.qa), "--retriever", "bm25"]) == 0
    shown = capsys.readouterr().out
    assert question in shown and "Tokyo?" in shown and "p(z|x)" in shown


def test_masks_are_filled_and_blocks_retrieved(tiny_runs: TinyRuns, capsys):
    words = ["fill", str(tiny_runs.realm), "The capital of Peru is [MASK].", "--target", "Lima", "--json"]
    assert main(words) == 0
    filled = json.loads(capsys.readouterr().out)
    assert filled["target"] == "Lima" and filled["fillings"][0]["block_id"] == -1
    assert main(words[:-1]) == 0
    assert "marginalised" in capsys.readouterr().out
    assert main(["retrieve", str(tiny_runs.realm), "Peru", "--k", "2", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["retrieve", str(tiny_runs.realm), "Peru", "--retriever", "bm25"]) == 0
    shown = capsys.readouterr()
    assert "Lima" in shown.out and "DEBUG" not in shown.err


def test_json_on_standard_output_stays_clean_while_an_index_is_built(tiny_runs: TinyRuns, tmp_path, capsys):
    folder = tmp_path / "ict"
    shutil.copytree(tiny_runs.ict, folder)
    assert main(["retrieve", str(folder), "Peru", "--k", "1", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["block_id"] >= 0 and "embed" in shown.err


def test_an_evaluation_is_shown_before_it_is_written(tiny_runs: TinyRuns, tmp_path, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("realm_jax.inspect.evaluate.write_evaluation", full)
    words = ["evaluate", str(tiny_runs.qa), "--questions", "dev", "--ks", "1", "--retriever", "bm25"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert "exact_match" in shown.out and "has room" in shown.err
    # A folder that is made for nothing does not stay.
    assert main([*words, "--out", str(tmp_path / "none"), "--candidates", "0"]) == 2
    assert not (tmp_path / "none").exists()


def test_a_run_is_embedded_and_evaluated(tiny_runs: TinyRuns, tmp_path, capsys):
    folder = tmp_path / "realm"
    shutil.copytree(tiny_runs.realm, folder)
    assert main(["embed", str(folder)]) == 0
    assert "index version 5, 12 blocks" in capsys.readouterr().out
    words = ["evaluate", str(folder), "--questions", "dev", "--ks", "1", "5", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "gold_recall@5" in capsys.readouterr().out
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert saved["index_staleness_steps"] == 0 and saved["metrics"]["recall@5"]["count"] == 12
    assert main(["evaluate", str(folder), "--utility-batches", "1"]) == 0
    assert (folder / "evaluation-model" / "evaluation.json").is_file()
