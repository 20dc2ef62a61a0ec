"""Checkpoints of a run; the one module that touches Orbax.

A checkpoint holds the parameters, the optimiser with step and key, the position in the data, what the
refresher had in flight, and a JSON record (config, phase, index version). Parameters are an item of their
own, so that evaluation restores them alone, on any topology.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from realm_jax.errors import CheckpointError
from realm_jax.ops.trees import first_difference
from realm_jax.train.state import TrainState
from realm_jax.types import Params

_DAMAGE = ("DATA_LOSS", "OUT_OF_RANGE", "FAILED_PRECONDITION")  # what TensorStore calls files cut short


class Checkpoints:
    """The checkpoints in `<workdir>/checkpoints`.

    Args:
      workdir: folder of the run.
      keep: newest checkpoints kept; None for reading.
    """

    def __init__(self, workdir: Path, *, keep: int | None = None):
        self._folder = (workdir / "checkpoints").absolute()
        if keep is None and not self._folder.is_dir():
            raise CheckpointError(
                "a run folder has a folder `checkpoints`",
                got=str(workdir),
                remedy="Give the folder of a training run that saved a checkpoint.",
            )
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, read_only=keep is None)
        handlers = {name: ocp.StandardCheckpointHandler() for name in ("params", "optimizer", "pending")}
        self._manager = ocp.CheckpointManager(
            self._folder, options=options, item_handlers={**handlers, "record": ocp.JsonCheckpointHandler()}
        )

    def latest(self) -> int | None:
        """Return the step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, *, record: dict[str, Any], pending: Params | None = None) -> None:
        """Save a checkpoint in the background.

        Args:
          state: the training state.
          record: JSON values: config, data position, index version, ...
          pending: the parameter snapshot a refresh in flight was started from, if any.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        rest = {"step": state.step, "opt_state": state.opt_state, "key": state.key}
        items: dict[str, ocp.args.CheckpointArgs] = {
            "params": ocp.args.StandardSave(state.params),
            "optimizer": ocp.args.StandardSave(rest),
            "record": ocp.args.JsonSave(record),
        }
        if pending is not None:
            items["pending"] = ocp.args.StandardSave(pending)
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, state: TrainState) -> TrainState:
        """Restore the newest training state.

        Args:
          state: a state of the same make; gives shapes, dtypes and shardings.

        Raises:
          CheckpointError: there is none, or it does not fit.
        """
        _check_fit(self._shapes(None), state.params)
        rest = {"step": state.step, "opt_state": state.opt_state, "key": state.key}
        targets = {"params": state.params, "optimizer": rest}
        restored = self._restore(None, {name: _standard(tree) for name, tree in targets.items()})
        return TrainState(params=restored["params"], **restored["optimizer"])

    def restore_params(self, *, step: int | None = None) -> Params:
        """Restore the parameters alone, as NumPy arrays, whatever the topology they were saved on."""
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), self._shapes(step))
        return self._restore(step, {"params": ocp.args.StandardRestore(target)})["params"]

    def restore_pending(self, like: Params) -> Params:
        """Restore the snapshot of the refresh that was in flight last; `like` gives shapes and dtypes."""
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        return self._restore(None, {"pending": ocp.args.StandardRestore(target)})["pending"]

    def record(self, *, step: int | None = None) -> dict[str, Any]:
        """Restore the JSON record."""
        return self._restore(step, {"record": ocp.args.JsonRestore()})["record"]

    def close(self) -> None:
        """Wait, then let go of the folder."""
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *what: object) -> None:
        """Close, after an error too: a process that ends loses the checkpoint it is still writing.

        Of several processes none waits then for the others, who may be gone.
        """
        if kind is None:
            self.close()
        elif jax.process_count() == 1:
            with suppress(Exception):  # the first error is the one to be told
                self.close()

    def _step(self, step: int | None) -> int:
        chosen = self._manager.latest_step() if step is None else step
        if chosen is None or chosen not in self._manager.all_steps():
            raise CheckpointError(
                f"{self._folder} must hold the checkpoint asked for",
                got="no checkpoint" if step is None else f"step {step}",
                remedy=f"It holds the steps {self.steps()}.",
            )
        return chosen

    def _shapes(self, step: int | None) -> Any:
        """Return the saved parameters' tree, with a shape and a dtype at every leaf."""
        chosen = self._step(step)
        try:
            return self._manager.item_metadata(chosen)["params"].tree
        except (ValueError, KeyError, OSError, AttributeError) as error:
            raise CheckpointError(
                f"the checkpoint of step {chosen} is whole",
                got=f"{type(error).__name__}: {str(error)[:500]}",
                remedy=f"Remove its folder, {self._folder / str(chosen)}, to use an older one.",
            ) from error

    def _restore(self, step: int | None, items: dict[str, Any]) -> dict[str, Any]:
        chosen = self._step(step)
        try:
            restored = self._manager.restore(chosen, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, FileNotFoundError) as error:
            damaged = any(code in str(error) for code in _DAMAGE)
            raise CheckpointError(
                f"the checkpoint of step {chosen} "
                + ("is whole" if damaged else "must fit the model of this config"),
                got=f"{type(error).__name__}: {str(error)[:500]}",
                remedy=f"Remove its folder, {self._folder / str(chosen)}, to use an older one."
                if damaged
                else "Use the config saved beside it; if it is damaged, remove its folder.",
            ) from error
        return {name: restored[name] for name in items}


def _check_fit(saved: Any, wanted: Params) -> None:
    """Refuse parameters of other sizes before anything is read: Orbax would leave reads half done."""
    if (difference := first_difference(saved, wanted)) is not None:
        name, found, needed = difference
        raise CheckpointError(
            "a checkpoint must fit the model of this config",
            got=f"{name}: {found} saved for {needed}",
            remedy="Use the config saved beside the checkpoint, or another run folder.",
        )


def _standard(tree: Any) -> ocp.args.StandardRestore:
    return ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, tree))
