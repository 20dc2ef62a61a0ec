"""What runs on a worker, with stand-ins for the programs of its system."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tpu_setup.standin import ENVIRONMENT, SCRIPTS, StandIn

PROGRAMS = ("systemctl", "sudo", "mountpoint", "gcsfuse", "uv", "curl", "gcloud", "python3")
VALUES = {name: ENVIRONMENT[name] for name in ("BUCKET", "COMMAND", "DATA")}


@pytest.fixture
def worker(tmp_path: Path) -> StandIn:
    """A home folder with the repository in it, whose interpreter is a stand-in, too."""
    system = StandIn(tmp_path, *PROGRAMS, "python")
    root = tmp_path / "realm_jax"
    shutil.copytree(SCRIPTS, root / "tpu_setup")
    (root / "experiments").mkdir()
    shutil.copy(SCRIPTS.parent / "experiments/environment.sh", root / "experiments")
    for path in [*SCRIPTS.parent.glob("requirements*.txt"), SCRIPTS.parent / "pyproject.toml"]:
        shutil.copy(path, root)
    (root / ".venv/bin").mkdir(parents=True)
    shutil.copy(system.bin / "python", root / ".venv/bin/python")
    system.answer("uv", f"0 {system.bin / 'python'}")
    return system


def run(worker: StandIn, script: str, *arguments: str, **values: str):
    return worker.run(worker.folder / "realm_jax/tpu_setup" / script, *arguments, **VALUES | values)


def install(worker: StandIn):
    return run(worker, "worker_install.sh", PYTHON_VERSION="3.12", GCSFUSE_VERSION="3.8.0")


def test_installing_brings_its_own_interpreter_the_packages_for_a_tpu_and_the_data(worker):
    done = install(worker)
    assert done.returncode == 0, done.stderr
    assert worker.calls("uv python install")[0][-1] == "3.12"
    root = worker.folder / "realm_jax"
    (packages, project) = worker.calls("-m pip install")
    assert packages[-2:] == [f"-r{root}/requirements.txt", f"-r{root}/requirements-tpu.txt"]
    assert project[-2:] == ["-e", str(root)]
    copied = [words[-2:] for words in worker.calls("rsync --recursive")]
    assert copied == [[f"gs://bucket/{folder}", folder] for folder in VALUES["DATA"].split()]
    assert (root / "corpora/wikipedia").is_dir() and (root / "questions").is_dir()


def test_what_is_installed_is_not_installed_again(worker):
    assert install(worker).returncode == 0 and install(worker).returncode == 0
    assert len(worker.calls("-m pip install")) == 2 and not worker.calls("curl ")


def test_the_program_that_mounts_the_bucket_is_fetched_where_it_is_missing(worker):
    (worker.bin / "gcsfuse").unlink()
    assert install(worker).returncode == 0
    (fetched,) = worker.calls("curl ")
    assert fetched[-1].endswith("/v3.8.0/gcsfuse_3.8.0_amd64.deb")
    (installed,) = worker.calls("sudo apt-get")
    assert installed[-1] == fetched[fetched.index("--output") + 1]


def test_an_install_that_fails_says_so_to_the_one_who_asked(worker):
    worker.answer("uv", "1 error: no download found")
    done = install(worker)
    assert done.returncode != 0 and "no download" in done.stderr


def test_training_runs_as_a_service_with_the_runs_of_the_bucket(worker):
    worker.answer("systemctl", "0 dead")
    worker.answer("mountpoint", "1 not a mountpoint")
    done = run(worker, "worker_train.sh")
    assert done.returncode == 0, done.stderr
    mount = worker.folder / "bucket"
    (mounted,) = worker.calls("gcsfuse ")
    assert mounted[-2:] == ["bucket", str(mount)] and "--metadata-cache-ttl-secs=0" in mounted
    assert (worker.folder / "realm_jax/runs").resolve() == mount / "runs"
    (started,) = worker.calls("systemd-run")
    assert started[-3:] == ["/bin/bash", "-c", f"exec env {VALUES['COMMAND']}"]
    assert f"--working-directory={worker.folder}/realm_jax" in started and "--unit=realm_jax" in started


def test_training_that_runs_is_left_alone_and_one_that_failed_is_started_again(worker):
    worker.answer("systemctl", "0 running")
    assert run(worker, "worker_train.sh").returncode == 0
    assert not worker.calls("systemd-run") and not worker.calls("gcsfuse ")
    worker.answer("systemctl", "0 failed")
    assert run(worker, "worker_train.sh").returncode == 0
    ends = [words[2] if words[1] == "systemctl" else words[1] for words in worker.calls("sudo ")]
    assert ends == ["stop", "reset-failed", "systemd-run"] and not worker.calls("gcsfuse ")


@pytest.mark.parametrize(
    ("system", "said"),
    [("running", "runs"), ("exited", "finished"), ("failed", "failed"), ("dead", "stopped")],
)
def test_a_worker_says_how_it_stands_with_the_end_of_its_log(worker, system, said):
    worker.answer("systemctl", f"0 {system}")
    first = run(worker, "worker_status.sh").stdout
    assert first.startswith(f"{said} on ") and first.endswith(": \n")
    (worker.folder / "realm_jax.log").write_text("one\ntwo\nthree\n")
    assert run(worker, "worker_status.sh").stdout == first.replace(": \n", ": three\n")
    assert run(worker, "worker_status.sh", "2").stdout.endswith(": two\nthree\n")


def test_an_accelerator_that_is_none_is_refused_before_anything_is_installed(worker):
    script = worker.folder / "enter.sh"
    source = f"{worker.folder}/realm_jax/experiments/environment.sh"
    script.write_text(f"root={worker.folder}/realm_jax; . {source}; enter_environment requirements.txt")
    done = worker.run(script, ACCELERATOR="abacus")
    assert done.returncode != 0 and "gpu, tpu or empty, but got 'abacus'" in done.stderr
    assert not worker.calls("pip install")


def test_nothing_of_an_older_commit_stays_on_a_worker(tmp_path):
    """The command that a worker is sent, run here: folders of the code are replaced, all else stays."""
    cloud = StandIn(tmp_path, "gcloud")
    home, code = tmp_path / "home", tmp_path / "code"
    for path in ("realm_jax/realm_jax/gone.py", "realm_jax/.venv/kept", "realm_jax/corpora/kept"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).touch()
    for path in ("realm_jax/new.py", "tpu_setup/worker_install.sh", ".gitignore"):
        (code / path).parent.mkdir(parents=True, exist_ok=True)
        (code / path).touch()
    subprocess.run(["tar", "-czf", tmp_path / "code.tar.gz", "-C", code, "."], check=True)
    assert cloud.run(SCRIPTS / "install.sh", "--keep-code").returncode == 0
    command = cloud.calls("ssh")[0][-1].removeprefix("--command=")
    (cloud.bin / "gcloud").write_text(f"#!/bin/sh\ncat {tmp_path / 'code.tar.gz'}\n")
    for _ in range(2):
        worker = subprocess.run(["bash", "-c", command], cwd=home, env={"PATH": f"{cloud.bin}:/usr/bin:/bin"})
        assert worker.returncode == 0
        found = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
        assert found == [
            "realm_jax/.gitignore",
            "realm_jax/.venv/kept",
            "realm_jax/corpora/kept",
            "realm_jax/realm_jax/new.py",
            "realm_jax/tpu_setup/worker_install.sh",
        ]
