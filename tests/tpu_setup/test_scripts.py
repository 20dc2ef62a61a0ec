"""The launch scripts, driven with a gcloud that records its calls and fails on demand."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tpu_setup.standin import ENVIRONMENT, SCRIPTS, StandIn

ROOT = SCRIPTS.parent
LAUNCHERS = ("create.sh", "install.sh", "launch.sh", "watch.sh", "resume.sh", "delete.sh")
QUOTA = "8 ERROR: RESOURCE_EXHAUSTED: Quota limit 'TPUV5sPreemptibleLitepod' has been exceeded. Limit: 0."
GONE = "1 ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: Requested entity was not found."
DROPPED = "255 Connection closed by remote host"


@pytest.fixture
def cloud(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path, "gcloud")


def verbs(cloud: StandIn) -> list[str]:
    """Say what was asked of the queued resource, in order, without looks at its state."""
    asked = [words[4] for words in cloud.calls("queued-resources")]
    return [verb for verb in asked if verb != "describe"]


def shown(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines() if line.startswith(("gcloud ", "git "))]


@pytest.mark.parametrize("script", LAUNCHERS)
def test_a_dry_run_prints_every_command_and_runs_none(cloud, script):
    done = cloud.run(script, "--dry-run")
    assert done.returncode == 0 and not done.stderr
    assert cloud.calls() == []
    assert shown(done.stdout) and len(shown(done.stdout)) == len(done.stdout.splitlines())


@pytest.mark.parametrize("script", ["create.sh", "launch.sh", "resume.sh", "delete.sh"])
def test_what_a_dry_run_prints_is_what_is_run(cloud, script):
    printed = shown(cloud.run(script, "--dry-run").stdout)
    cloud.answer("state", *([GONE] if script in ("create.sh", "resume.sh") else []), "0 ACTIVE")
    assert cloud.run(script).returncode == 0
    assert cloud.calls() == printed


def test_the_committed_code_goes_to_the_bucket_and_from_there_to_every_worker(cloud):
    printed = shown(cloud.run("install.sh", "--dry-run").stdout)
    assert printed[0][:4] == ["git", "-C", str(ROOT), "archive"] and printed[0][-1] == "HEAD"
    assert cloud.run("install.sh").returncode == 0
    upload, install = cloud.calls()
    assert upload[:3] == ["gcloud", "storage", "cp"] and upload[-1] == "gs://bucket/launches/pod/code.tar.gz"
    assert install == printed[2] and "--worker=all" in install
    assert not Path(upload[3]).exists(), "the archive is removed when it is sent"
    assert cloud.run("install.sh", "--keep-code").returncode == 0
    assert cloud.calls()[2:] == [install]


@pytest.mark.parametrize(
    ("kind", "flag"), [("spot", "--spot"), ("reserved", "--reserved"), ("on-demand", None)]
)
def test_the_request_is_for_what_the_environment_says(cloud, kind, flag):
    cloud.environment(**ENVIRONMENT | {"PROVISIONING": kind})
    (create,) = [words for words in shown(cloud.run("create.sh", "--dry-run").stdout) if "create" in words]
    wanted = ["--node-id=pod", "--accelerator-type=v5litepod-64", "--runtime-version=v2-alpha-tpuv5-lite"]
    where = ["--project=project", "--zone=zone-a"]
    assert create[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "pod"]
    assert create[6:] == [*where, *wanted, *([flag] if flag else [])]


@pytest.mark.parametrize("script", LAUNCHERS)
def test_help_says_what_a_script_does_and_how_it_is_called(cloud, script):
    done = cloud.run(script, "--help")
    text = (SCRIPTS / script).read_text().splitlines()
    assert done.returncode == 0 and cloud.calls() == []
    assert (
        done.stdout.splitlines()
        == [line[2:] for line in text[1:] if line.startswith("# ")][: len(done.stdout.splitlines())]
    )
    assert f"bash tpu_setup/{script}" in done.stdout
    offered = set(re.findall(r'^read_arguments "(.*?)"', "\n".join(text), re.MULTILINE)[0].split())
    for flag in offered | {"--dry-run", "--environment"}:
        assert flag in done.stdout


def test_what_is_wrong_with_the_environment_is_said(cloud, tmp_path):
    for values, message in (
        (ENVIRONMENT | {"PROVISIONING": "cheap"}, "spot, reserved or on-demand, but got cheap"),
        (ENVIRONMENT | {"ZONE": ""}, "sets ZONE, but got nothing"),
        (ENVIRONMENT | {"RESTARTS": "abc"}, "RESTARTS is a whole number, but got abc"),
        (ENVIRONMENT | {"ATTEMPTS": "0"}, "at least 1, but got 5 and 0"),
        (ENVIRONMENT | {"BUCKET": "gs://bucket"}, "without gs:// and folders, but got gs://bucket"),
        (
            ENVIRONMENT | {"NAME": "my pod"},
            "small letters, digits and hyphens, a letter first, but got my pod",
        ),
    ):
        cloud.environment(**values)
        done = cloud.run("create.sh")
        assert done.returncode == 1 and message in done.stderr
    done = cloud.run("create.sh", "--dry-rum")
    assert done.returncode == 1 and "but got --dry-rum" in done.stderr
    (tmp_path / "environment").unlink()
    done = cloud.run("create.sh")
    assert done.returncode == 1 and "environment.example" in done.stderr
    assert cloud.calls() == []


@pytest.mark.parametrize("script", ["create.sh", "watch.sh", "delete.sh"])
def test_without_gcloud_nothing_is_said_of_the_slice(cloud, script):
    (cloud.bin / "gcloud").unlink()
    for tool in ("bash", "dirname", "basename", "mktemp", "rm", "cat", "grep", "sed"):
        (cloud.bin / tool).symlink_to(shutil.which(tool))
    command = ["bash", str(SCRIPTS / script), "--environment", str(cloud.folder / "environment")]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(cloud.bin)})
    assert done.returncode == 1 and not done.stdout and "gcloud, is installed" in done.stderr


def test_an_environment_file_may_be_named_like_a_command(cloud, monkeypatch):
    shutil.copy(cloud.folder / "environment", cloud.folder / "env")
    cloud.answer("state", GONE)
    command = ["bash", str(SCRIPTS / "delete.sh"), "--environment", "env"]
    path = f"{cloud.bin}:/usr/bin:/bin"
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cloud.folder,
        env={"PATH": path, "STANDIN": str(cloud.folder)},
    )
    assert done.returncode == 0 and "no queued resource pod" in done.stdout


@pytest.mark.parametrize("machines", ["CREATING", "REPAIRING", "STOPPED"])
def test_a_slice_is_ready_when_its_machines_are(cloud, machines):
    cloud.answer("state", "0 ACTIVE")
    cloud.answer("slice", f"0 {machines}", "0 READY")
    done = cloud.run("create.sh")
    assert done.returncode == 0 and done.stdout.splitlines()[-2:] == [
        f"The machines of pod are {machines}.",
        "pod is ready.",
    ]


def test_a_request_that_is_there_but_not_yet_shown_is_waited_for(cloud):
    cloud.answer("state", GONE, "0 WAITING_FOR_RESOURCES", "0 ACTIVE")
    cloud.answer("create", "1 ERROR: ALREADY_EXISTS: pod")
    assert cloud.run("create.sh").returncode == 0 and verbs(cloud) == ["create"]


def test_what_is_being_deleted_is_not_deleted_again(cloud):
    cloud.answer("state", "0 DELETING")
    assert cloud.run("delete.sh").returncode == 0 and verbs(cloud) == []
    cloud.answer("state", "0 SUSPENDED", GONE)
    cloud.answer("delete", "1 ERROR: NOT_FOUND")
    assert cloud.run("delete.sh").returncode == 0


def test_one_look_without_an_answer_is_no_success(cloud):
    cloud.answer("state", "0 ACTIVE")
    cloud.answer("ssh", "127 bash: worker_status.sh: No such file or directory")
    done = cloud.run("watch.sh", "--once")
    assert done.returncode == 1 and "the workers answer" in done.stderr


def test_the_example_is_complete(cloud, tmp_path):
    shutil.copy(SCRIPTS / "environment.example", tmp_path / "environment")
    done = cloud.run("resume.sh", "--dry-run")
    assert done.returncode == 0 and "--accelerator-type=v5litepod-64" in done.stdout
    text = (SCRIPTS / "environment.example").read_text()
    named = set(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE))
    assert set(ENVIRONMENT) <= named


def test_no_quota_is_said_plainly_and_with_a_remedy(cloud):
    cloud.answer("state", GONE)
    cloud.answer("create", QUOTA)
    done = cloud.run("create.sh")
    assert done.returncode == 1
    assert "quota for v5litepod-64 (spot) in zone-a" in done.stderr and "Limit: 0" in done.stderr
    assert "Ask for more" in done.stderr and verbs(cloud) == ["create"]


def test_a_request_that_fails_in_the_queue_says_why(cloud):
    cloud.answer("state", GONE, "0 WAITING_FOR_RESOURCES", "0 FAILED")
    cloud.answer("reason", "0 There is no more capacity in the zone")
    done = cloud.run("create.sh")
    assert done.returncode == 1 and "no more capacity" in done.stderr and "another ZONE" in done.stderr


def test_a_bucket_without_folders_is_refused_before_anything_is_asked_for(cloud):
    cloud.answer("bucket", "0 ")
    done = cloud.run("create.sh")
    assert done.returncode == 1 and "hierarchical namespace" in done.stderr and verbs(cloud) == []
    cloud.answer("bucket", "1 HTTPError 403: no access")
    assert "no access" in cloud.run("create.sh").stderr


@pytest.mark.parametrize("state", ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
def test_what_is_asked_for_already_is_not_asked_for_again(cloud, state):
    cloud.answer("state", f"0 {state}", "0 ACTIVE")
    assert cloud.run("create.sh").returncode == 0 and verbs(cloud) == []


def test_waiting_has_an_end_and_keeps_the_place_in_the_queue(cloud):
    cloud.answer("state", GONE, "0 WAITING_FOR_RESOURCES")
    done = cloud.run("create.sh")
    assert done.returncode == 1 and "still in the queue" in done.stderr
    assert len(cloud.calls("queued-resources describe")) == 5 and verbs(cloud) == ["create"]


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_a_slice_that_was_taken_away_is_deleted_and_asked_for_again(cloud, state):
    cloud.answer("state", f"0 {state}", GONE, "0 ACTIVE")
    assert cloud.run("create.sh").returncode == 0
    assert verbs(cloud) == ["delete", "create"]
    (deleted,) = cloud.calls("queued-resources delete")
    assert {"--force", "--quiet"} <= set(deleted)


def test_a_slice_that_is_gone_while_its_request_seems_active_is_made_anew(cloud):
    cloud.answer("state", "0 ACTIVE", "0 DELETING", GONE, "0 ACTIVE")
    cloud.answer("slice", "0 PREEMPTED", "0 READY")
    assert cloud.run("create.sh").returncode == 0 and verbs(cloud) == ["delete", "create"]


def test_a_question_that_gcloud_cannot_answer_is_asked_again_and_then_given_up(cloud):
    cloud.answer("state", "1 ERROR: The service is currently unavailable.", "0 ACTIVE")
    assert cloud.run("create.sh").returncode == 0 and verbs(cloud) == []
    cloud.answer("state", "1 ERROR: Reauthentication failed.")
    done = cloud.run("create.sh")
    assert done.returncode == 1 and "Reauthentication failed" in done.stderr and verbs(cloud) == []


@pytest.mark.parametrize("script", ["install.sh", "launch.sh"])
def test_a_dropped_connection_is_tried_again_so_often_and_no_more(cloud, script):
    cloud.answer("ssh", DROPPED, DROPPED, "0 done")
    assert cloud.run(script).returncode == 0 and len(cloud.calls("ssh")) == 3
    cloud.answer("ssh", DROPPED)
    done = cloud.run(script)
    assert done.returncode == 1 and "attempt 3 of 3" in done.stderr and len(cloud.calls("ssh")) == 6


def test_a_command_that_fails_on_a_worker_is_not_a_dropped_connection(cloud):
    cloud.answer("ssh", "1 No space left on device")
    done = cloud.run("install.sh")
    assert done.returncode == 1 and "No space left" in done.stderr and len(cloud.calls("ssh")) == 1


def test_watching_ends_when_every_worker_has_finished(cloud):
    cloud.answer("state", "0 ACTIVE")
    cloud.answer(
        "ssh",
        "0 runs on w-0: realm: 50/100 steps\\nruns on w-1: ",
        "0 finished on w-0: done\\nruns on w-1: ",
        "0 finished on w-0: done\\nfinished on w-1: done",
    )
    done = cloud.run("watch.sh")
    assert done.returncode == 0 and len(cloud.calls("ssh")) == 3
    assert "50/100 steps" in done.stdout and "over on every worker" in done.stdout


def test_watching_shows_the_log_of_a_worker_that_failed(cloud):
    cloud.answer("state", "0 ACTIVE")
    cloud.answer(
        "ssh", "0 runs on w-0: x failed on y\\nfailed on w-1: NaN", "0 failed on w-1: every line of it"
    )
    done = cloud.run("watch.sh", "--resume")
    assert done.returncode == 1 and "every line of it" in done.stdout and "launch.sh" in done.stderr
    assert verbs(cloud) == [], "what fails by itself is not made anew"


def test_a_worker_whose_machine_was_started_anew_is_started_again(cloud):
    cloud.answer("state", "0 ACTIVE")
    lost = "0 failed on w-0: a process was lost\\nstopped on w-1: "
    over = "0 finished on w-0: \\nfinished on w-1: "
    cloud.answer("ssh", lost, "5 not loaded there", "0 installed", "0 started", over)
    assert cloud.run("watch.sh", "--resume").returncode == 0 and verbs(cloud) == []
    # Those that wait for the lost one are stopped first.
    assert "systemctl stop" in cloud.calls("ssh")[1][-1] and "worker_train" in cloud.calls("ssh")[3][-1]
    cloud.answer("ssh", lost)
    assert cloud.run("watch.sh").returncode == 3
    # What is not started again is not stopped.
    cloud.environment(**ENVIRONMENT | {"RESTARTS": "0"})
    before = len(cloud.calls("systemctl stop"))
    assert cloud.run("watch.sh", "--resume").returncode == 3
    assert len(cloud.calls("systemctl stop")) == before == 1


def test_a_look_is_one_look(cloud):
    cloud.answer("state", "0 ACTIVE")
    cloud.answer("ssh", "0 runs on w-0: failed on a shard, tried again")
    assert cloud.run("watch.sh", "--once").returncode == 0 and len(cloud.calls("ssh")) == 1


def test_watching_resumes_after_preemption(cloud):
    cloud.answer(
        "state",
        *("0 ACTIVE", "0 SUSPENDING", "0 SUSPENDED"),  # watch
        *("0 SUSPENDED", GONE, "0 PROVISIONING", "0 ACTIVE"),  # create
        "0 ACTIVE",
    )
    cloud.answer("ssh", "0 runs on w-0: ", "0 installed", "0 started", "0 finished on w-0: done")
    done = cloud.run("watch.sh", "--resume")
    assert done.returncode == 0, done.stderr
    assert verbs(cloud) == ["delete", "create"]
    commands = [words[-1] for words in cloud.calls("ssh")]
    assert [re.findall(r"worker_\w+", command)[0] for command in commands] == [
        "worker_status",
        "worker_install",
        "worker_train",
        "worker_status",
    ]
    assert cloud.calls("storage cp") == [], "the code of the run is kept"
    assert ENVIRONMENT["COMMAND"] in re.sub(r"\\(.)", r"\1", commands[2]), "the same command goes on"


def test_a_slice_that_went_silent_is_looked_for(cloud):
    cloud.answer("state", "0 ACTIVE")
    cloud.answer("ssh", DROPPED)
    cloud.answer("slice", "0 PREEMPTED")
    done = cloud.run("watch.sh")
    assert done.returncode == 3 and "resume.sh" in done.stderr
    cloud.answer("slice", "0 READY")
    done = cloud.run("watch.sh")
    assert done.returncode == 1 and "silence, 5 times over" in done.stderr
    cloud.answer("slice", "1 ERROR: network is unreachable")
    assert cloud.run("watch.sh", "--resume").returncode == 1 and verbs(cloud) == []


def test_without_resume_a_preemption_ends_the_watch_and_with_it_so_many_do(cloud):
    cloud.answer("state", "0 SUSPENDED")
    done = cloud.run("watch.sh")
    assert done.returncode == 3 and "resume.sh" in done.stderr and verbs(cloud) == []
    done = cloud.run("watch.sh", "--resume")
    assert done.returncode == 3 and "2 restarts" in done.stderr


def test_a_resume_that_does_not_succeed_is_tried_again(cloud):
    cloud.answer("state", "0 SUSPENDED", "0 SUSPENDED", GONE, GONE, GONE, "0 ACTIVE")
    cloud.answer("create", QUOTA, "0 created")
    cloud.answer("ssh", "0 installed", "0 started", "0 finished on w-0: ")
    done = cloud.run("watch.sh", "--resume")
    assert done.returncode == 0, done.stderr
    assert "quota" in done.stderr and verbs(cloud) == ["delete", "create", "create"]


def test_an_outage_of_the_network_does_not_end_the_watch(cloud):
    cloud.answer("state", *["1 ERROR: network is unreachable"] * 4, "0 ACTIVE")
    cloud.answer("ssh", "0 finished on w-0: ")
    assert cloud.run("watch.sh").returncode == 0


def test_deleting_stops_the_run_first_and_may_be_repeated(cloud):
    cloud.answer("state", "0 ACTIVE", GONE)
    assert cloud.run("delete.sh").returncode == 0
    assert "systemctl stop realm_jax" in cloud.calls()[1][-1] and verbs(cloud) == ["delete"]
    done = cloud.run("delete.sh")
    assert done.returncode == 0 and "no queued resource" in done.stdout and verbs(cloud) == ["delete"]


def test_a_slice_that_cannot_be_reached_is_deleted_all_the_same(cloud):
    cloud.answer("state", "0 ACTIVE")
    cloud.answer("ssh", DROPPED)
    assert cloud.run("delete.sh").returncode == 0 and verbs(cloud) == ["delete"]
    cloud.answer("delete", "1 ERROR: permission denied")
    done = cloud.run("delete.sh")
    assert done.returncode == 1 and "still paid for" in done.stderr


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed (requirements-dev.txt)"
)
@pytest.mark.parametrize("severity", ["style", "warning"])
def test_shellcheck_finds_nothing_here_and_nothing_serious_in_other_scripts(severity):
    found = [SCRIPTS / "environment.example", *SCRIPTS.glob("*.sh")]
    if severity == "warning":
        found = [ROOT / ".ci/run", *ROOT.glob("*/*.sh")]
    assert len(found) > 9
    command = ["shellcheck", "-x", "-S", severity, *map(str, found)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
