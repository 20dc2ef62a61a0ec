"""Refreshes made by a worker process: the trainer's side."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from realm_jax.config import Config, to_dict
from realm_jax.data.corpus import Corpus
from realm_jax.refresh.exchange import Exchange
from realm_jax.refresh.remote import LOG, Child, await_answer
from realm_jax.runs.live_index import IndexVersion, load_version
from realm_jax.runs.rolling import Shard
from realm_jax.types import Params

EXCHANGE_FOLDER = "exchange"  # in a run folder


class RemoteBuild:
    """Build index versions in another process; called as `build_version` is, on a thread that may wait.

    Args:
      exchange: where both talk.
      config: the resolved config, which the worker is sent.
      corpus: the blocks.
      root: folder of the run's versions.
      mesh: devices the index is searched on.
      child: the process, where it is this one's; None where somebody else starts it.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        config: Config,
        corpus: Corpus,
        root: Path,
        mesh: Mesh | None,
        child: Child | None,
    ):
        self._exchange, self._config, self._corpus = exchange, config, corpus
        self._root, self._mesh, self._child = root, mesh, child
        self._offered: int | None = None  # the version that lies in the exchange

    def __call__(
        self,
        params: Params,
        version: int,
        should_stop: Callable[[], bool],
        *,
        shard: Shard | None = None,
    ) -> IndexVersion:
        """Hand the snapshot over, wait for the answer, and publish what came back in the run's folder.

        Raises:
          RefreshError: it was asked to stop, or the worker is dead.
          RealmError, RemoteError: what the worker raised.
        """
        if self._child is not None:
            self._child.start()
        values = {
            "version": version,
            "config": to_dict(self._config),
            "corpus_hash": self._corpus.content_hash,
            "shard": None if shard is None else self._offer(shard),
        }
        request = self._exchange.ask(params, values)
        try:
            answer = await_answer(
                self._exchange,
                request,
                should_stop=should_stop,
                check=(lambda: None) if self._child is None else self._child.check,
                # A process of one's own is seen to end, however slowly it starts on a busy machine.
                silence_seconds=self._config.refresh.silence_seconds if self._child is None else math.inf,
            )
            self._exchange.take_version(version, answer["files"], self._root)
        finally:
            self._exchange.clear()
        self._offer_only(version)
        loaded = load_version(self._root, version, corpus=self._corpus, mesh=self._mesh)
        return replace(loaded, rates=answer["rates"])

    def close(self) -> None:
        """End the worker process that was started here, and tidy up."""
        if self._child is not None:
            self._child.close()
        self._exchange.drop_versions()

    def _offer(self, shard: Shard) -> dict[str, Any]:
        """Let the worker read the version whose other shards stay."""
        if self._offered != shard.base:
            self._exchange.put_version(shard.base, self._root)
            self._offer_only(shard.base)
        return {"base": shard.base, "versions": list(shard.versions), "number": shard.number}

    def _offer_only(self, version: int) -> None:
        if self._offered not in (None, version):
            self._exchange.drop_version(self._offered)
        self._offered = version


def remote_build(
    config: Config, workdir: Path, *, corpus: Corpus, root: Path, mesh: Mesh | None
) -> RemoteBuild:
    """Make the build of `refresh.worker process`, with a process of its own unless an exchange is named.

    Args:
      config: the resolved config.
      workdir: folder of the run.
      corpus: the blocks.
      root: folder of the run's versions.
      mesh: the devices of the trainer.
    """
    named = config.refresh.exchange
    exchange = Exchange(named or workdir / EXCHANGE_FOLDER)
    exchange.clear()  # of what a run that was killed has asked for
    exchange.drop_versions()
    child = None if named else _child(workdir / EXCHANGE_FOLDER, mesh=mesh)
    return RemoteBuild(exchange, config=config, corpus=corpus, root=root, mesh=mesh, child=child)


def _child(folder: Path, *, mesh: Mesh | None) -> Child:
    """Describe a worker beside the trainer: on as many devices of a CPU, for an accelerator has one owner."""
    on_cpu = jax.default_backend() == "cpu"
    devices = mesh.size if on_cpu and mesh is not None else 1
    return Child(
        ["refresh", "--exchange", str(folder.absolute()), "--devices", str(devices)],
        log=folder / LOG,
        environment={} if on_cpu else {"JAX_PLATFORMS": "cpu"},
    )
