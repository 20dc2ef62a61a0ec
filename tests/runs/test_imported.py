"""Public checkpoints as run folders, and back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from realm_jax.cli import main
from realm_jax.data.block_records import read_block_records, write_block_records
from realm_jax.data.corpus import Corpus
from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.inspect.answer import answer_questions
from realm_jax.inspect.loaded import LoadedRun, open_run
from realm_jax.inspect.retrieve import search
from realm_jax.models.pretrained import import_pretrained
from realm_jax.runs.imported import imported_config, save_imported
from realm_jax.runs.setup import initial_params, models_of
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.train.checkpoint import Checkpoints
from tests.models.oracle import oracle_folder
from tests.tiny_run import TinyRuns


@pytest.fixture(scope="module")
def exported(tiny_runs: TinyRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fine-tuned tiny run in the public layout of an open-QA model."""
    out = tmp_path_factory.mktemp("public") / "open_qa"
    assert main(["export", str(tiny_runs.qa), "--out", str(out), "--architecture", "RealmForOpenQA"]) == 0
    return out


def equal(one: object, other: object) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def test_an_open_qa_model_comes_back_with_parameters_index_and_blocks(exported, tiny_runs, tmp_path):
    before = open_run(tiny_runs.qa)
    pretrained = import_pretrained(exported)
    fresh = save_imported(pretrained, tmp_path / "run", corpus=before.corpus)
    after = open_run(tmp_path / "run")
    assert after.phase == "qa" and after.version.version == 0
    assert all(name.startswith("encoder/") for name in fresh)
    assert equal(after.params["embedder"], before.params["query_embedder"])
    assert equal(after.params["reader"], before.params["reader"])
    np.testing.assert_array_equal(after.version.embeddings, before.version.embeddings)
    texts = ["capital of Peru", "Tokyo"]
    one, other = (search(run, texts, retriever="model", k=12) for run in (before, after))
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
    assert (exported / "block_records.npy").is_file()
    assert all(a.probability > 0 for a in answer_questions(after, texts))


def test_a_public_open_qa_model_brings_its_blocks(exported, tiny_runs, tmp_path):
    """Its records prepared, its embeddings the index: the answers are those of the run it came from."""
    corpus, run = tmp_path / "corpus", tmp_path / "run"
    prepare = [
        "prepare",
        str(exported / "block_records.npy"),
        "--out",
        str(corpus),
        "--tokenizer",
        str(exported),
    ]
    assert main(prepare) == 0
    assert main(["import", str(exported), "--workdir", str(run), "--corpus", str(corpus)]) == 0
    texts = ["What is the capital of Peru?", "Tokyo"]
    first, second = open_run(tiny_runs.qa), open_run(run)
    second = replace(
        second, config=replace(second.config, qa=first.config.qa)
    )  # the loss says what answers share
    # All blocks are read: the scores of so small a model are ties but for rounding.
    before, after = (answer_questions(opened, texts, candidates=12) for opened in (first, second))
    for one, other in zip(before, after, strict=True):
        assert len(other.evidence) == 12
        assert (other.text, other.block_id, other.span) == (one.text, one.block_id, one.span)
        assert other.probability == pytest.approx(one.probability, rel=1e-4)


def test_records_that_are_no_blocks_of_their_own_are_refused(exported, tmp_path, capsys):
    """Four records, four blocks, and yet not the same: one is blank, one was cut in two."""
    model, corpus = tmp_path / "model", tmp_path / "corpus"
    shutil.copytree(exported, model)
    records = read_block_records(exported / "block_records.npy")
    write_block_records(
        model / "block_records.npy", [records[0], b" ", records[1] + b" " + records[2], *records[3:]]
    )
    prepare = ["prepare", str(model / "block_records.npy"), "--out", str(corpus), "--tokenizer", str(model)]
    longest = max(len(Tokenizer.load(model / "vocab.txt").encode(r.decode()).ids) for r in records)
    assert main([*prepare, "--max-block-tokens", str(longest + 1)]) == 0
    words = ["import", str(model), "--workdir", str(tmp_path / "run"), "--corpus", str(corpus)]
    assert len(Corpus.open(corpus)) == len(records) and main(words) == 2
    assert "block 1 is record 1" in capsys.readouterr().err


def test_an_export_in_the_layout_of_an_import_holds_its_own_blocks_alone(
    exported, tiny_runs, tmp_path, capsys
):
    run, other = tmp_path / "run", tmp_path / "other"
    assert main(["import", str(exported), "--workdir", str(run)]) == 0
    (tmp_path / "few.jsonl").write_text(json.dumps({"title": "Peru", "text": "Lima is the capital."}))
    prepare = ["prepare", str(tmp_path / "few.jsonl"), "--out", str(other), "--tokenizer", str(run)]
    assert main(prepare) == 0
    assert main(["export", str(run), "--out", str(tmp_path / "out"), "--corpus", str(other)]) == 2
    assert "the 12 blocks whose embeddings" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_export_in_the_layout_of_an_import_has_its_blocks_too(exported, tiny_runs, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    corpus = open_run(tiny_runs.qa).corpus.path
    assert main(["import", str(exported), "--workdir", str(run), "--corpus", str(corpus)]) == 0
    assert main(["export", str(run), "--out", str(out)]) == 0
    for name in ("block_records.npy", "vocab.txt", "config.json"):
        assert (out / name).read_bytes() == (exported / name).read_bytes(), name


def test_how_a_reader_is_used_is_written_and_taken_over(exported, tiny_runs):
    before = open_run(tiny_runs.qa).config
    after = imported_config(import_pretrained(exported), name="x")
    assert (after.qa.loss, after.name) == ("orqa", "x")
    assert after.qa.candidates == before.qa.candidates
    assert after.shapes.joint_length == before.shapes.joint_length
    assert after.shapes.query_length == before.shapes.query_length


@pytest.mark.parametrize("tokens", [2, 12, 64])
def test_a_reader_of_few_tokens_is_imported(exported, tokens, tmp_path):
    """Fewer than a question may have by default: the question's limit is one less."""
    folder = shutil.copytree(exported, tmp_path / "public")
    said = json.loads((folder / "config.json").read_text())
    said = {k: v for k, v in said.items() if k != "searcher_seq_len"} | {"reader_seq_len": tokens}
    (folder / "config.json").write_text(json.dumps(said))
    assert main(["import", str(folder), "--workdir", str(tmp_path / "run")]) == 0
    shapes = imported_config(import_pretrained(folder), name="run").shapes
    longest = said["max_position_embeddings"]
    assert (shapes.joint_length, shapes.query_length) == (min(tokens, longest), min(tokens, longest, 65) - 1)
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == said


@pytest.mark.parametrize("name", ["scorer_two_towers", "encoder", "reader", "open_qa"])
def test_oracles_are_imported_by_the_command(name, tmp_path, capsys):
    folder = oracle_folder(name, tmp_path)
    assert main(["import", str(folder), "--workdir", str(tmp_path / "run")]) == 0, capsys.readouterr().err
    saved = Checkpoints(tmp_path / "run").restore_params()
    for part, params in import_pretrained(folder).params.items():
        assert equal(saved[part], params)


def test_wordpieces_of_a_tokenizers_file_become_the_vocabulary(exported, tiny_runs, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "public")
    pieces = (folder / "vocab.txt").read_text().splitlines()
    vocab = {piece: i for i, piece in reversed(list(enumerate(pieces)))}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": vocab}}))
    (folder / "vocab.txt").unlink()
    save_imported(import_pretrained(folder), tmp_path / "run", corpus=open_run(tiny_runs.qa).corpus)
    assert (tmp_path / "run" / "vocab.txt").read_text().splitlines() == pieces


def test_a_corpus_of_other_blocks_is_refused_and_leaves_no_run(exported, tiny_runs, tmp_path):
    pretrained = import_pretrained(exported)
    pretrained.unread["block_emb"] = pretrained.unread["block_emb"][:5]
    with pytest.raises(ConfigError, match="5 blocks"):
        save_imported(pretrained, tmp_path / "run", corpus=open_run(tiny_runs.qa).corpus)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_folder_of_a_public_model_is_not_written_to(exported, tmp_path, capsys):
    folder = shutil.copytree(exported, tmp_path / "public")
    before = (folder / "config.json").read_bytes()
    assert main(["import", str(folder), "--workdir", str(folder)]) == 2
    assert "something else" in capsys.readouterr().err
    assert (folder / "config.json").read_bytes() == before


def test_every_phase_can_start_from_an_import(exported, tmp_path):
    pretrained = import_pretrained(exported)
    save_imported(pretrained, tmp_path / "run")
    config = imported_config(pretrained, name="run")
    params = initial_params(models_of(config), seed=0, start_from=tmp_path / "run")
    assert set(params) == {"embedder", "encoder", "reader"}
    assert equal(params["encoder"]["bert"], params["reader"]["bert"]), "the donor of the missing part"
    with pytest.raises(CheckpointError, match="folder of its own"):
        save_imported(pretrained, tmp_path / "run")


def test_export_after_import_gives_back_the_file(exported, tmp_path, capsys):
    run, out = str(tmp_path / "run"), tmp_path / "again"
    assert main(["import", str(exported), "--workdir", run]) == 0
    assert "embedder, reader from" in capsys.readouterr().out
    assert main(["export", run, "--out", str(out)]) == 0
    one, other = (load_file(folder / "model.safetensors") for folder in (exported, out))
    assert set(one) == set(other)
    for name, tensor in one.items():
        np.testing.assert_array_equal(tensor, other[name])
    assert (out / "vocab.txt").read_bytes() == (exported / "vocab.txt").read_bytes()


def test_a_run_of_one_class_is_exported_as_another(tiny_runs, tmp_path):
    out = tmp_path / "scorer"
    assert main(["export", str(tiny_runs.realm), "--out", str(out), "--architecture", "RealmScorer"]) == 0
    back = import_pretrained(out)
    saved = Checkpoints(tiny_runs.realm).restore_params()
    assert equal(back.params["embedder"], saved["embedder"])


def test_an_import_needs_a_corpus_to_be_used(exported, tiny_runs, tmp_path):
    save_imported(import_pretrained(exported), tmp_path / "run")
    with pytest.raises(CheckpointError, match="--corpus"):
        open_run(tmp_path / "run")
    run: LoadedRun = open_run(tmp_path / "run", corpus=tiny_runs.corpus)
    assert run.corpus.path == tiny_runs.corpus
