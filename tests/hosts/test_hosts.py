"""Several processes on this machine: their runs equal those of one process, and end when one is lost."""

import dataclasses
import json
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from realm_jax.config import BertConfig, Config, MeshConfig, RefreshConfig, to_dict
from realm_jax.data.prepare import prepare
from realm_jax.runs.ict import run_ict
from realm_jax.runs.qa import run_qa
from realm_jax.runs.realm import run_realm
from realm_jax.train.checkpoint import Checkpoints
from tests.hosts.processes import finish, printed, start, wait_for
from tests.runs.compare import logged
from tests.tiny_run import compiled_once, documents, questions, write_jsonl
from tests.tiny_run import config as tiny_config

RUN = {"ict": run_ict, "realm": run_realm, "fused": run_realm, "rolling": run_realm, "qa": run_qa}
STOPS = {"ict": 2, "realm": 5, "fused": 4, "rolling": 5, "qa": 2}
# Runs of REALM with other refresh workers, and that of one process which they must equal.
WORKERS = {"submesh": "rolling", "process": "rolling"}
METRICS = {
    "ict": ("loss", "accuracy", "gradient_norm"),
    "realm": ("loss", "retrieval_utility", "gradient_norm", "embedding_drift"),
    "qa": ("loss", "retrieved", "gradient_norm"),
}
METRICS |= dict.fromkeys(("fused", "rolling"), METRICS["realm"])


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Config]:
    """The config of each phase, on all devices.

    REALM searches with `exact`, or inside its step as `fused`, and is refreshed beside training, at steps 2
    and 4, adopted at 3 and 5.
    `rolling` embeds half of the blocks at step 2, the other half at 4; `submesh` and `process` too, but on a
    device of each process that does not train, and in a process of its own.
    Fine-tuning searches with `scann` and is refreshed end to end, as soon as it can be.
    """
    folder = tmp_path_factory.mktemp("hosts")
    source = write_jsonl(folder / "documents.jsonl", documents())
    write_jsonl(folder / "questions.jsonl", questions())
    prepare([source], folder / "corpus", vocab_size=200, max_block_tokens=60, title_tokens=8, workers=1)
    made = tiny_config(folder)
    bert = BertConfig(
        hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32, max_positions=96, dropout=0.1
    )
    same = {"batch_size": 8, "log_every": 1, "checkpoint_every": 4}
    made = dataclasses.replace(
        made,
        mesh=MeshConfig(),
        model=dataclasses.replace(made.model, bert=bert, embedding_size=8),
        ict=dataclasses.replace(made.ict, **{**same, "steps": 5000}),
        realm=dataclasses.replace(made.realm, **same),
        qa=dataclasses.replace(made.qa, **same, end_to_end=True),
        refresh=RefreshConfig(every=2, adoption="at_lag", lag=1, probes=6),
    )
    pytest.importorskip("scann", reason="ScaNN has no wheel for this platform")
    qa = dataclasses.replace(
        made,
        index=dataclasses.replace(made.index, engine="scann"),
        refresh=RefreshConfig(every=1, worker="inline", probes=6),
    )
    fused = dataclasses.replace(made, index=dataclasses.replace(made.index, engine="fused"))
    rolling, submesh, process = (
        dataclasses.replace(made, refresh=dataclasses.replace(made.refresh, rolling=2, **worker))
        for worker in ({}, {"worker": "submesh", "devices": 2}, {"worker": "process"})
    )
    return {
        "ict": made,
        "realm": made,
        "fused": fused,
        "rolling": rolling,
        "submesh": submesh,
        "process": process,
        "qa": qa,
    }


@pytest.fixture(scope="module")
def alone(configs, programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process: fine-tuning, whose few questions with an answer weigh much, on four devices
    as that of two processes, the others on eight."""
    folder = tmp_path_factory.mktemp("alone")
    with compiled_once(programs):
        for phase, run in RUN.items():
            before = folder / "realm" if phase == "qa" else None
            config = configs[phase]
            if phase == "qa":
                config = dataclasses.replace(config, mesh=MeshConfig(data=4))
            run(config, folder / phase, start_from=before, stop_at=STOPS[phase])
    return folder


def run_together(
    configs, folder: Path, stops: dict[str, int], *, before: Path, processes: int, programs: Path
) -> None:
    """Run phases on several processes, to the steps named; fine-tuning starts from the run `before`."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (name, to_dict(configs[name]), str(folder / name), str(before) if name == "qa" else "", stop)
        for name, stop in stops.items()
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    words, logs = ["-m", "tests.hosts.phases", "--jobs", str(folder / "jobs.json")], folder / str(processes)
    codes = finish(start(words, logs, processes=processes, programs=programs))
    assert codes == [0] * processes, "\n".join(printed(logs, number) for number in range(processes))


@pytest.fixture(scope="module")
def two(configs, alone, programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes, with two devices each; REALM stops at step 4, a refresh in flight."""
    folder = tmp_path_factory.mktemp("two")
    stops = {name: stop for name, stop in STOPS.items() if name != "rolling"}
    stops |= {"realm": 4, **{name: STOPS[like] for name, like in WORKERS.items()}}
    run_together(configs, folder, stops, before=alone / "realm", processes=2, programs=programs)
    return folder


def assert_same(found: Path, expected: Path, phase: str, *, stop: int) -> None:
    """Compare what was logged up to a step, and the parameters at it."""
    for name in METRICS[phase]:
        one, other = ({s: v for s, v in logged(run, name).items() if s <= stop} for run in (found, expected))
        assert list(one) == list(other), name
        np.testing.assert_allclose(
            list(one.values()), list(other.values()), rtol=2e-3, atol=1e-4, err_msg=f"{phase} {name}"
        )
    if phase != "ict":
        one, other = logged(found, "index_version"), logged(expected, "index_version")
        assert one == {step: other[step] for step in one}
    one, other = (Checkpoints(run).restore_params(step=stop) for run in (found, expected))
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-3)


@pytest.mark.parametrize(("phase", "stop"), [("ict", 2), ("realm", 4), ("fused", 4), ("qa", 2)])
def test_two_processes_train_as_one_does(alone, two, phase, stop):
    assert_same(two / phase, alone / phase, phase, stop=stop)


@pytest.mark.parametrize(("worker", "like"), WORKERS.items())
def test_two_processes_refresh_their_index_elsewhere_in_parts(alone, two, worker, like):
    assert_same(two / worker, alone / like, like, stop=STOPS[like])
    newest = two / worker / "index" / "v00000004"
    manifest = json.loads((newest / "manifest.json").read_text())
    assert manifest["shards"] == [2, 4]
    found, expected = (
        np.load(run / "index" / "v00000004" / "embeddings.npy") for run in (two / worker, alone / like)
    )
    np.testing.assert_allclose(found, expected, atol=2e-3)
    made_elsewhere = worker == "process"
    assert ("processes" not in manifest["settings"]) == made_elsewhere
    assert (two / worker / "exchange").exists() == made_elsewhere


def test_the_first_process_alone_writes_and_reports(two):
    lines = (two / "realm" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert len(list((two / "realm" / "tensorboard").iterdir())) == 1
    manifest = json.loads((two / "qa" / "index" / "v00000002" / "manifest.json").read_text())
    assert manifest["engine"] == "scann" and manifest["settings"]["processes"] == 2
    assert "realm: 4/4 steps" in printed(two / "2", 0) and "steps/s" not in printed(two / "2", 1)


def test_four_processes_go_on_where_two_stopped(configs, alone, programs, two):
    """From the checkpoint of step 4 with the index of step 2; that of step 4 was in flight, is made anew."""
    run_together(configs, two, {"realm": 5}, before=two, processes=4, programs=programs)
    assert_same(two / "realm", alone / "realm", "realm", stop=5)
    manifest = json.loads((two / "realm" / "index" / "v00000004" / "manifest.json").read_text())
    assert manifest["settings"]["processes"] == 4


def test_a_refresh_worker_of_two_processes_makes_the_same_versions(configs, alone, programs, tmp_path):
    """Half of the blocks at a time, each process a quarter; asked to stop through the second, both do."""
    exchange, run = tmp_path / "exchange", tmp_path / "run"
    exchange.mkdir()
    words = ["-m", "realm_jax", "refresh", "--exchange", str(exchange)]
    worker = start(words, tmp_path / "logs", processes=2, programs=programs)
    wait_for(exchange / "worker.json", worker)
    refresh = dataclasses.replace(configs["process"].refresh, exchange=str(exchange))
    with compiled_once(programs):
        run_realm(dataclasses.replace(configs["process"], refresh=refresh), run, stop_at=STOPS["rolling"])
    worker[1].send_signal(signal.SIGTERM)
    assert finish(worker) == [0, 0]
    assert_same(run, alone / "rolling", "rolling", stop=STOPS["rolling"])
    found, expected = (
        np.load(r / "index" / "v00000004" / "embeddings.npy") for r in (run, alone / "rolling")
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert logged(run, "embedded_blocks_per_second").keys() == {3, 4, 5}
    assert f"{exchange}: 2 versions built" in printed(tmp_path / "logs", 0)
    assert "versions built" not in printed(tmp_path / "logs", 1)


def test_when_one_process_is_lost_the_others_end_and_say_so(configs, programs, tmp_path):
    """Killed in the middle of its training, which would take hours."""
    experiment = tmp_path / "experiment.py"
    experiment.write_text(
        "import json\nfrom realm_jax.config import from_json\n\n\ndef config():\n"
        f"    return from_json({json.dumps(json.dumps(to_dict(configs['ict'])))})\n"
    )
    words = ["-m", "realm_jax", "ict", "--experiment", str(experiment), "--workdir", str(tmp_path / "run")]
    started = start(words, tmp_path / "logs", processes=2, programs=programs, lost_after=10)
    wait_for(tmp_path / "run" / "metrics.jsonl", started)
    started[1].send_signal(signal.SIGKILL)
    assert finish(started) == [2, -signal.SIGKILL]
    message = printed(tmp_path / "logs", 0)
    assert "realm_jax ict: the processes of a run work together to its end, but got" in message
    assert "Start all of them again: the run resumes from its last checkpoint." in message
