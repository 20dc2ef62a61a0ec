"""One process at a time trains a run."""

import subprocess
import sys

import pytest

from realm_jax.cli import main
from realm_jax.errors import CheckpointError
from realm_jax.runs.lock import LOCK, one_trainer

HOLD = """
import sys
from pathlib import Path
from realm_jax.runs.lock import one_trainer
with one_trainer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_trainer_is_refused_until_the_first_has_ended(tmp_path, capsys):
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        said = f"one process at a time.*in which process {first.pid} does"
        with pytest.raises(CheckpointError, match=said), one_trainer(run):
            pass
        assert main(["ict", "--workdir", str(run)]) == 2
        assert "one process at a time" in capsys.readouterr().err
        assert [path.name for path in run.iterdir()] == [LOCK]
        with one_trainer(tmp_path / "other"):  # another run is nobody's
            pass
        first.kill()
    with one_trainer(run), pytest.raises(CheckpointError, match="one process"), one_trainer(run):
        pass
    assert run.is_dir()
    with one_trainer(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists() and not (tmp_path / "other").exists(), "nothing came into them"


def test_where_there_are_no_locks_a_run_goes_on(tmp_path, monkeypatch):
    def unsupported(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("realm_jax.runs.lock.fcntl.flock", unsupported)
    with one_trainer(tmp_path), one_trainer(tmp_path):
        pass
