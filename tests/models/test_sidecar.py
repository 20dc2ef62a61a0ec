"""What an export needs survives beside a run."""

from pathlib import Path

import chex

from realm_jax.models.export import export_pretrained
from realm_jax.models.pretrained import import_pretrained
from realm_jax.models.sidecar import load_sidecar, save_sidecar
from tests.models.small import small_config, tensors_of, write


def test_there_and_back(tmp_path: Path) -> None:
    write("RealmForOpenQA", small_config(), tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    save_sidecar(tmp_path / "run" / "pretrained", got.source, got.unread)
    source, unread = load_sidecar(tmp_path / "run" / "pretrained")
    assert source == got.source
    chex.assert_trees_all_equal(unread, got.unread)
    export_pretrained(got.params, got.config, tmp_path / "n", source=source, unread=unread)
    chex.assert_trees_all_equal(tensors_of(tmp_path / "m"), tensors_of(tmp_path / "n"))


def test_nothing_unread(tmp_path: Path) -> None:
    write("BertModel", small_config(embedding_size=0), tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    save_sidecar(tmp_path / "s", got.source, got.unread)
    assert load_sidecar(tmp_path / "s") == (got.source, {})
