"""One process makes a folder; what a dead one left is removed, what a living one makes is not."""

import signal
import socket
import subprocess
import sys

import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.data.lock import FolderLock
from realm_jax.data.prepare import prepare
from realm_jax.data.writer import CorpusWriter
from realm_jax.errors import CorpusError

HOLD = """
import sys
from pathlib import Path
from realm_jax.data.writer import CorpusWriter
with CorpusWriter(Path(sys.argv[1]), overwrite=False):
    print("held", flush=True)
    sys.stdin.read()
"""


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture
def holder(tmp_path):
    """Another process that is preparing tmp_path / "c"."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "c")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_two_processes_do_not_prepare_one_folder(corpus, source, tmp_path, holder):
    before = sorted(hidden(tmp_path))
    with pytest.raises(CorpusError, match=rf"One process.*process {holder.pid} on .*is preparing"):
        prepare([source], tmp_path / "c", tokenizer=corpus.path)
    assert sorted(hidden(tmp_path)) == before and len(before) == 2, "the other's work is untouched"
    prepare([source], tmp_path / "d", tokenizer=corpus.path, workers=1)  # another folder is nobody's


def test_what_a_killed_process_left_is_removed_by_the_next(corpus, source, tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(hidden(tmp_path)) == 2
    prepare([source], tmp_path / "c", tokenizer=corpus.path, workers=1)
    assert hidden(tmp_path) == [] and Corpus.open(tmp_path / "c")


def test_a_corpus_that_was_moved_away_when_its_process_died_comes_back(corpus, source, tmp_path):
    prepare([source], tmp_path / "c", tokenizer=corpus.path, workers=1)
    kept = Corpus.open(tmp_path / "c").content_hash
    (tmp_path / "c").rename(tmp_path / ".c.1.replaced")
    with pytest.raises(CorpusError, match="new folder"):
        prepare([source], tmp_path / "c", tokenizer=corpus.path)
    assert Corpus.open(tmp_path / "c").content_hash == kept and hidden(tmp_path) == []
    (tmp_path / ".c.1.replaced").mkdir()
    prepare([source], tmp_path / "c", tokenizer=corpus.path, workers=1, overwrite=True)
    assert hidden(tmp_path) == []


def test_folders_of_other_names_are_left_alone(tmp_path):
    others = [".c.d.1.unfinished", ".c.x.unfinished", ".cc.1.unfinished", ".c.1.unfinished.old"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".c.12.unfinished").mkdir()
    with CorpusWriter(tmp_path / "c", overwrite=False):
        pass
    assert sorted(hidden(tmp_path)) == sorted(others)


def test_a_lock_of_another_host_is_for_a_person_to_judge(tmp_path):
    path = tmp_path / ".c.lock"
    path.write_text("process 7 on elsewhere")
    with pytest.raises(CorpusError, match=r"process 7 on elsewhere.*remove .*\.c\.lock"):
        FolderLock(tmp_path / "c").acquire()
    path.write_text(f"process 7 on {socket.gethostname()}")
    lock = FolderLock(tmp_path / "c")
    lock.acquire()
    lock.release()
    assert hidden(tmp_path) == []


def test_where_there_are_no_locks_nothing_is_removed(tmp_path, monkeypatch):
    def unsupported(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("realm_jax.data.lock.fcntl.flock", unsupported)
    (tmp_path / ".c.12.unfinished").mkdir()
    with CorpusWriter(tmp_path / "c", overwrite=False):
        assert (tmp_path / ".c.12.unfinished").is_dir()
    assert hidden(tmp_path) == [".c.12.unfinished"]
