"""Refreshes made by a worker process: the worker's side, the command `refresh`."""

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import jax

from realm_jax.config import Config, from_dict
from realm_jax.data.corpus import Corpus
from realm_jax.errors import ConfigError, CorpusError
from realm_jax.hosts.meeting import Meeting, is_first, next_meeting
from realm_jax.index.protocol import Storage
from realm_jax.index.store import prune
from realm_jax.mesh import check_rows, make_mesh
from realm_jax.progress import SilentReporter, reporter
from realm_jax.refresh.exchange import Exchange, Request
from realm_jax.refresh.remote import POLL_SECONDS, to_json
from realm_jax.runs.gathered_version import build_gathered_version
from realm_jax.runs.live_index import build_version, version_builder
from realm_jax.runs.rolling import Shard
from realm_jax.runs.setup import models_of

Value = TypeVar("Value")

BEAT_SECONDS = 2.0  # an object may be rewritten once a second, no more


class Heart:
    """Shows the trainer that the worker lives, and looks whether its work is still wanted.

    A thread of its own does both: the one that embeds may be busy for minutes. Of several processes all look,
    and the first speaks: if another is lost, JAX ends the first.

    Args:
      exchange: where both talk.
      is_orphan: says whether the trainer that started this process is gone.
      beat_seconds: time between two signs of life.
    """

    def __init__(
        self, exchange: Exchange, *, is_orphan: Callable[[], bool], beat_seconds: float = BEAT_SECONDS
    ):
        self._exchange, self._is_orphan, self._beat_seconds = exchange, is_orphan, beat_seconds
        self._closed, self.orphaned = threading.Event(), threading.Event()
        self._watched: tuple[Request, threading.Event] | None = None  # one value: two threads meet here
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._closed.set()
        self._thread.join()

    def watch(self, request: Request) -> Callable[[], bool]:
        """Look after a request from now on; returns what says that it is not wanted any more."""
        unwanted = threading.Event()
        self._watched = request, unwanted
        return lambda: unwanted.is_set() or self.orphaned.is_set()

    def _run(self) -> None:
        beat = 0
        while True:
            watched = self._watched
            try:
                if is_first():
                    self._exchange.show_life({"host": socket.gethostname(), "pid": os.getpid(), "beat": beat})
                if watched is not None and not self._exchange.is_wanted(watched[0]):
                    watched[1].set()
            except Exception as error:  # the next beat may pass; if none does, the trainer hears silence
                print(f"refresh: {type(error).__name__}: {error}", flush=True)
            if self._is_orphan():
                self.orphaned.set()
            if self._closed.wait(self._beat_seconds):
                return
            beat += 1


class Bench:
    """What is kept between refreshes: the corpus that is open, and the programs that are compiled.

    Args:
      exchange: where both talk.
      root: folder of versions on this machine.
      corpus: where the corpus lies here; None: where the config says.
      devices: how many of this machine's are used; 0: all.
      meeting: of the processes of the worker.
    """

    def __init__(
        self, exchange: Exchange, *, root: Path, corpus: Path | None, devices: int, meeting: Meeting
    ):
        self._exchange, self._root, self._corpus = exchange, root, corpus
        self._devices, self._meeting = devices, meeting
        self._made: tuple[str, Corpus, Callable[..., Any]] | None = None

    def build(self, request: Request, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """Do what a request asks for; returns the answer, which the first process gives."""
        values = request.values
        corpus, build, shard = self._together(lambda: self._prepare(values))
        params = self._together(lambda: self._exchange.params(request))
        several: dict[str, Any] = {}
        if jax.process_count() > 1:
            put, get = (partial(each, request) for each in (self._exchange.put_rows, self._exchange.rows))
            several = {"put_rows": put, "rows_of": get}
        blocks = len(corpus) if shard is None else len(shard.block_ids())
        name, own = f"refresh: version {values['version']}", -(-blocks // jax.process_count())
        with reporter(name, own, unit="blocks") if is_first() else SilentReporter() as progress:
            built = build(
                params, values["version"], should_stop, shard=shard, progress=progress.update, **several
            )
        if built is None:
            return {}
        files = self._exchange.put_version(built.version, self._root)
        prune(self._root, keep=set())
        return {"files": files, "rates": dict(built.rates)}

    def _together(self, part: Callable[[], Value]) -> Value:
        """Do a part on every process, so that what fails on one keeps none waiting."""
        done: list[Value] = []
        self._meeting.each(lambda: done.append(part()))
        return done[0]

    def _prepare(self, values: dict[str, Any]) -> tuple[Corpus, Callable[..., Any], Shard | None]:
        key = json.dumps([values["config"], values["corpus_hash"]])
        if self._made is None or self._made[0] != key:
            config: Config = from_dict(Config, values["config"])
            corpus = Corpus.open(self._corpus or config.corpus)
            if corpus.content_hash != values["corpus_hash"]:
                raise CorpusError(
                    "A worker embeds the corpus of the trainer",
                    got=f"{corpus.path} with another content",
                    remedy="Name a copy of that corpus: realm_jax refresh --corpus.",
                )
            devices, processes = jax.local_devices()[: self._devices or None], jax.process_count()
            parts, several = len(devices) * processes, processes > 1
            check_rows("index.embed_batch_size", config.index.embed_batch_size, parts=parts)
            mesh = make_mesh(data=0, fsdp=1, tensor=1, devices=devices)
            build = version_builder(
                config,
                models=models_of(config),
                corpus=corpus,
                root=self._root,
                mesh=mesh,
                storage=Storage(mesh, config.index.storage),
                build=partial(build_gathered_version, meeting=self._meeting) if several else build_version,
                processes=processes,
            )
            self._made = key, corpus, build
        _, corpus, build = self._made
        return corpus, build, None if values["shard"] is None else self._shard(len(corpus), **values["shard"])

    def _shard(self, count: int, *, base: int, versions: list[int], number: int) -> Shard:
        return Shard(base, count, partial(self._exchange.embeddings, base), tuple(versions), number)


def serve_refreshes(
    folder: str,
    *,
    should_stop: Callable[[], bool],
    corpus: Path | None = None,
    devices: int = 0,
    parent: int | None = None,
    beat_seconds: float = BEAT_SECONDS,
) -> int:
    """Do the refreshes a trainer asks for, one after the other, until asked to stop.

    What a request asks for depends on the request alone: a worker may be replaced by another at any time. Of
    several processes each embeds its share, and the first builds the index and answers.

    Args:
      folder: the exchange, a path or a URL.
      should_stop: asked all the time; what one process is asked all do.
      corpus: where the corpus lies here; None: where the trainer's config says.
      devices: how many of this machine's are used; 0: all.
      parent: process id of the trainer that started this process and ends it with its own end; None: nobody.
      beat_seconds: time between two signs of life.

    Returns:
      The number of versions that were built.

    Raises:
      ConfigError: there is no such folder, or there are fewer devices.
    """
    if "://" not in folder and not Path(folder).is_dir():
        raise ConfigError(
            "the trainer makes the folder through which it talks with its worker",
            got=folder,
            remedy="Give what the run has as refresh.exchange, and start it first or make the folder.",
        )
    if corpus is not None:
        Corpus.open(corpus)  # what is wrong with it is said now
    if devices > len(jax.local_devices()):
        raise ConfigError(
            "a worker uses devices that there are",
            got=f"{devices} of {len(jax.local_devices())}",
            remedy="0 uses all.",
        )
    exchange, pause, done = Exchange(folder), threading.Event(), 0
    meeting = next_meeting("refresh")

    def is_orphan() -> bool:
        return parent is not None and os.getppid() != parent

    with (
        tempfile.TemporaryDirectory(prefix="refresh-") as here,
        Heart(exchange, is_orphan=is_orphan, beat_seconds=beat_seconds) as heart,
    ):
        bench = Bench(exchange, root=Path(here), corpus=corpus, devices=devices, meeting=meeting)
        while True:
            request = exchange.request() if is_first() else None
            told = meeting.exchange(
                {
                    "stop": should_stop() or heart.orphaned.is_set(),
                    "request": request and {"name": request.name, "values": request.values},
                }
            )
            if any(each["stop"] for each in told):
                return done
            if told[0]["request"] is None:
                pause.wait(POLL_SECONDS)
                continue
            request = Request(**told[0]["request"])
            done += _serve(exchange, bench, request, heart.watch(request), should_stop, meeting)


def _serve(
    exchange: Exchange,
    bench: Bench,
    request: Request,
    is_unwanted: Callable[[], bool],
    should_stop: Callable[[], bool],
    meeting: Meeting,
) -> bool:
    """Answer one request, if it is still wanted then; returns whether a version was built."""
    answer: dict[str, Any]
    try:
        answer = bench.build(request, lambda: is_unwanted() or should_stop())
    except Exception as error:
        answer = {"failure": to_json(error)}
    stopped = any(meeting.exchange(should_stop()))
    failed = "failure" in answer
    if failed and (stopped or is_unwanted() or not exchange.is_wanted(request)):
        return False  # nobody waits for it, or another worker takes it up
    if failed:
        print(f"refresh: {answer['failure']['kind']}: {answer['failure']['message']}", flush=True)
    if is_first():
        exchange.reply(request, answer)
    return not failed
