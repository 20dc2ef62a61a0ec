"""The inverse cloze task: trains the embedder alone, and resumes bit for bit."""

from realm_jax.runs.ict import run_ict
from realm_jax.train.checkpoint import Checkpoints
from tests.runs.compare import assert_same_end, same


def test_stopped_and_resumed_it_ends_the_same_and_only_the_embedder_moved(make_config, tmp_path):
    config = make_config()
    run_ict(config, tmp_path / "start", stop_at=0)
    last = run_ict(config, tmp_path / "whole", start_from=tmp_path / "start")
    assert {"loss", "accuracy", "step_seconds"} <= set(last)
    for stop_at in (2, None):
        run_ict(config, tmp_path / "parts", start_from=tmp_path / "start", stop_at=stop_at)
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    before, after = (Checkpoints(tmp_path / name).restore_params() for name in ("start", "whole"))
    moved = {name for name in before if not same(before[name], after[name])}
    assert moved == {"embedder"}
