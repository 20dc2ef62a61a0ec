"""Opening a run: its index, its corpus, and what is refused."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from realm_jax.cli import main
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.errors import CheckpointError, ConfigError, CorpusError, IndexFault, RecallError
from realm_jax.index.store import versions
from realm_jax.inspect.loaded import LoadedRun, find_version, open_run
from realm_jax.inspect.retrieve import retrieve
from realm_jax.train.checkpoint import Checkpoints
from tests.index.test_store import put


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def edited_corpus(tiny_runs, out: Path) -> Path:
    """The same vocabulary, and a document changed."""
    lines = tiny_runs.documents.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["text"] = "The capital of Peru is Havana. It moved there."
    source = out.parent / "edited.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare([source], out, tokenizer=tiny_runs.corpus, max_block_tokens=60, title_tokens=8, workers=1)
    return out


def test_parameters_and_facts_are_those_of_the_checkpoint(qa: LoadedRun, tiny_runs):
    saved = Checkpoints(tiny_runs.qa).restore_params()
    assert (qa.phase, qa.step, qa.recorded_version) == ("qa", 0, 0)
    assert qa.config.model.two_towers
    assert jax.tree.structure(qa.params) == jax.tree.structure(saved)
    for one, other in zip(jax.tree.leaves(qa.params), jax.tree.leaves(saved), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_without_index_gets_one_of_its_own_parameters(tiny_runs, tmp_path):
    folder = copied(tiny_runs.ict, tmp_path / "ict")
    run = open_run(folder, batch_size=2)
    assert versions(folder / "index") == []
    assert run.version.version == run.step and len(run.version.embeddings) == 12
    assert versions(folder / "index") == [run.step]
    again = open_run(folder, batch_size=2)
    np.testing.assert_array_equal(again.version.embeddings, run.version.embeddings)


def test_a_fresh_index_is_no_mixture_and_leaves_those_of_the_run_alone(tmp_path):
    index, unmixed = tmp_path / "index", tmp_path / "index-unmixed"

    def found(*, fresh):
        return find_version(
            SimpleNamespace(
                folder=tmp_path,
                corpus=SimpleNamespace(content_hash="this"),
                step=8,
                recorded_version=8,
                blocks_stay=False,
                fresh_index=fresh,
                own_corpus=True,
            )
        )

    assert found(fresh=True) == (index, None)
    put(index, 8, shards=(8, 4))
    assert found(fresh=False) == (index, 8)
    assert found(fresh=True) == (unmixed, None)
    put(unmixed, 8)
    assert found(fresh=False) == found(fresh=True) == (unmixed, 8)


def test_an_index_below_the_recall_floor_of_the_run_is_refused(tiny_runs, tmp_path):
    folder = copied(tiny_runs.realm, tmp_path / "realm")
    for manifest in folder.glob("index/*/manifest.json"):
        values = json.loads(manifest.read_text())
        assert values["recall"] == 1.0
        manifest.write_text(json.dumps(values | {"recall": 0.2}))
    with pytest.raises(RecallError, match=r"recall@10 of 0\.9 .* got 0\.200"):
        _ = open_run(folder).version


def test_the_index_of_the_checkpoint_is_taken_unless_a_fresh_one_is_asked_for(tiny_runs, tmp_path):
    folder = copied(tiny_runs.realm, tmp_path / "realm")
    run = open_run(folder)
    assert run.recorded_version is not None and run.recorded_version < run.step
    assert run.version.version == run.recorded_version
    fresh = open_run(folder, fresh_index=True)
    assert fresh.version.version == run.step
    assert not np.array_equal(fresh.version.embeddings, run.version.embeddings)
    assert find_version(open_run(folder)) == (folder / "index", run.step), "once there, it is preferred"


@pytest.mark.parametrize("damaged", ["manifest.json", "embeddings.npy"])
def test_a_damaged_index_is_built_again_where_a_fresh_one_is_asked_for(tiny_runs, tmp_path, damaged):
    folder = copied(tiny_runs.realm, tmp_path / "realm")
    whole = open_run(folder, fresh_index=True).version.embeddings
    (file,) = folder.glob(f"index/v*{open_run(folder).step}/{damaged}")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(IndexFault, match="again"):
        _ = open_run(folder).version
    np.testing.assert_array_equal(open_run(folder, fresh_index=True).version.embeddings, whole)
    np.testing.assert_array_equal(open_run(folder).version.embeddings, whole)


def test_an_edited_corpus_gets_an_index_of_its_own_and_changes_what_is_found(tiny_runs, tmp_path):
    folder = copied(tiny_runs.realm, tmp_path / "realm")
    before = versions(folder / "index")
    other = edited_corpus(tiny_runs, tmp_path / "edited")
    run = open_run(folder, corpus=other)
    found = {block.body for _, _, block in retrieve(run, "Peru", k=12)}
    assert "The capital of Peru is Havana. It moved there." in found
    assert versions(folder / "index") == before
    place, version = find_version(run)
    assert place.name == f"index-{Corpus.open(other).content_hash[:12]}" and version == run.step


def test_a_moved_corpus_still_fits_its_index(tiny_runs, tmp_path):
    moved = copied(tiny_runs.corpus, tmp_path / "elsewhere")
    assert find_version(open_run(tiny_runs.realm, corpus=moved))[0] == tiny_runs.realm / "index"


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_batches_cover_all_rows_once_and_have_one_size(qa: LoadedRun, count):
    seen = []
    for rows, real in qa.batches(count):
        assert rows.shape == (qa.batch_size,) and rows.max() < count
        seen += rows[:real].tolist()
    assert seen == list(range(count))


def test_what_cannot_be_opened_is_refused(tiny_runs, tmp_path):
    with pytest.raises(CheckpointError, match="checkpoints"):
        open_run(tmp_path)
    with pytest.raises(CheckpointError, match="step 77"):
        open_run(tiny_runs.qa, step=77)
    with pytest.raises(CorpusError, match="prepared corpus"):
        open_run(tiny_runs.qa, corpus=tmp_path / "none")
    prepare([tiny_runs.documents], tmp_path / "other", vocab_size=150, max_block_tokens=60, workers=1)
    with pytest.raises(ConfigError, match="of its own vocabulary.*--tokenizer"):
        open_run(tiny_runs.qa, corpus=tmp_path / "other")


def test_a_damaged_checkpoint_is_named(tiny_runs, tmp_path):
    folder = copied(tiny_runs.qa, tmp_path / "qa")
    (file,) = (folder / "checkpoints" / str(open_run(folder).step)).glob("params/_METADATA")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="is whole.*Remove its folder"):
        open_run(folder)


def test_a_corpus_of_as_many_but_other_wordpieces_is_refused(tiny_runs, tmp_path, capsys):
    """Sizes agree, so nothing else would notice that every token stands for another word."""
    tokens = (tiny_runs.corpus / "vocab.txt").read_text().splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join([*tokens[:-2], tokens[-1], tokens[-2]]) + "\n")
    other = tmp_path / "other"
    prepare([tiny_runs.documents], other, tokenizer=tmp_path / "vocab.txt", max_block_tokens=60, workers=1)
    with pytest.raises(ConfigError, match="of its own vocabulary"):
        open_run(tiny_runs.qa, corpus=other)
    words = ["pretrain", "--workdir", str(tmp_path / "w"), "--start-from", str(tiny_runs.ict)]
    assert main([*words, "--corpus", str(other)]) == 2
    assert "of its own vocabulary" in capsys.readouterr().err and not (tmp_path / "w").exists()


def test_the_vocabulary_in_a_run_folder_prepares_corpora_for_it(tiny_runs, tmp_path):
    prepare([tiny_runs.documents], tmp_path / "c", tokenizer=tiny_runs.qa, max_block_tokens=60, workers=1)
    assert len(open_run(tiny_runs.qa, corpus=tmp_path / "c").corpus) == 12
