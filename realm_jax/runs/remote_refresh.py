"""Refreshes made by a worker process: the trainer's side."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from realm_jax.config import Config, to_dict
from realm_jax.data.corpus import Corpus
from realm_jax.hosts.layout import own_mesh
from realm_jax.hosts.meeting import Meeting, is_first
from realm_jax.refresh.exchange import Exchange
from realm_jax.refresh.remote import LOG, Child, await_answer
from realm_jax.runs.live_index import IndexVersion, load_version
from realm_jax.runs.rolling import Shard
from realm_jax.types import Params

EXCHANGE_FOLDER = "exchange"  # in a run folder


class RemoteBuild:
    """Build index versions in another process; called as `build_version` is, on a thread that may wait.

    Of several processes that train together, the first asks for them and all open them.

    Args:
      exchange: where both talk; None on those that do not ask.
      config: the resolved config, which the worker is sent.
      corpus: the blocks.
      root: folder of the run's versions.
      mesh: devices the index is searched on.
      child: the process, where it is this one's; None where somebody else starts it.
      meeting: of those that train.
    """

    def __init__(
        self,
        exchange: Exchange | None,
        *,
        config: Config,
        corpus: Corpus,
        root: Path,
        mesh: Mesh | None,
        child: Child | None,
        meeting: Meeting,
    ):
        self._exchange, self._config, self._corpus = exchange, config, corpus
        self._meeting = meeting
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
          RealmError, RemoteError: what the worker raised; HostsError, IndexFault where the first has met it.
        """
        exchange = self._exchange
        rates, *_ = self._meeting.each(
            lambda: {} if exchange is None else self._fetch(exchange, params, version, should_stop, shard)
        )
        opened: list[IndexVersion] = []
        self._meeting.each(
            lambda: opened.append(load_version(self._root, version, corpus=self._corpus, mesh=self._mesh))
        )
        return replace(opened[0], rates=rates)

    def _fetch(
        self,
        exchange: Exchange,
        params: Params,
        version: int,
        should_stop: Callable[[], bool],
        shard: Shard | None,
    ) -> dict[str, float]:
        """Ask for a version and publish it; returns how fast it was embedded."""
        if self._child is not None:
            self._child.start()
        values = {
            "version": version,
            "config": to_dict(self._config),
            "corpus_hash": self._corpus.content_hash,
            "shard": None if shard is None else self._offer(exchange, shard),
        }
        request = exchange.ask(params, values)
        try:
            answer = await_answer(
                exchange,
                request,
                should_stop=should_stop,
                check=(lambda: None) if self._child is None else self._child.check,
                # A process of one's own is seen to end, however slowly it starts on a busy machine.
                silence_seconds=self._config.refresh.silence_seconds if self._child is None else math.inf,
            )
            exchange.take_version(version, answer["files"], self._root)
        finally:
            exchange.clear()
        self._offer_only(exchange, version)
        return answer["rates"]

    def close(self) -> None:
        """End the worker process that was started here, and tidy up."""
        if self._child is not None:
            self._child.close()
        if self._exchange is not None:
            self._exchange.drop_versions()

    def _offer(self, exchange: Exchange, shard: Shard) -> dict[str, Any]:
        """Let the worker read the version whose other shards stay."""
        if self._offered != shard.base:
            exchange.put_version(shard.base, self._root)
            self._offer_only(exchange, shard.base)
        return {"base": shard.base, "versions": list(shard.versions), "number": shard.number}

    def _offer_only(self, exchange: Exchange, version: int) -> None:
        if self._offered is not None and self._offered != version:
            exchange.drop_version(self._offered)
        self._offered = version


def remote_build(
    config: Config, workdir: Path, *, corpus: Corpus, root: Path, mesh: Mesh | None, meeting: Meeting
) -> RemoteBuild:
    """Make the build of `refresh.worker process`, with a process of its own unless an exchange is named.

    Args:
      config: the resolved config.
      workdir: folder of the run.
      corpus: the blocks.
      root: folder of the run's versions.
      mesh: the devices of the trainer.
      meeting: of the processes that train.
    """
    make = partial(RemoteBuild, config=config, corpus=corpus, root=root, mesh=mesh, meeting=meeting)
    if not is_first():
        return make(None, child=None)
    named = config.refresh.exchange
    exchange = Exchange(named or workdir / EXCHANGE_FOLDER)
    exchange.clear()  # of what a run that was killed has asked for
    exchange.drop_versions()
    return make(exchange, child=None if named else _child(workdir / EXCHANGE_FOLDER, mesh=own_mesh(mesh)))


def _child(folder: Path, *, mesh: Mesh | None) -> Child:
    """Describe a worker beside the trainer: on as many devices of a CPU, for an accelerator has one owner."""
    on_cpu = jax.default_backend() == "cpu"
    devices = mesh.size if on_cpu and mesh is not None else 1
    return Child(
        ["refresh", "--exchange", str(folder.absolute()), "--devices", str(devices)],
        log=folder / LOG,
        environment={} if on_cpu else {"JAX_PLATFORMS": "cpu"},
    )
