"""A trained run, opened for use: parameters, corpus, index, compiled functions of one batch shape."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.config import Config, from_dict
from realm_jax.data.corpus import Corpus
from realm_jax.errors import CheckpointError, ConfigError, IndexFault, RecallError
from realm_jax.index.lexical import LexicalIndex
from realm_jax.index.protocol import Storage
from realm_jax.index.store import read_manifest, versions
from realm_jax.models.build import Models
from realm_jax.ops.relevance import retrieval_log_prob
from realm_jax.ops.rows import joint_tokens
from realm_jax.ops.spans import span_allowed
from realm_jax.progress import reporter, to_stderr
from realm_jax.runs.candidates import EmbedQueries, query_embedder
from realm_jax.runs.live_index import INDEX_FOLDER, IndexVersion, load_version, version_builder
from realm_jax.runs.setup import check_run_vocabulary, models_of, resolve
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.steps import body_mask, retrieval_scores
from realm_jax.types import Array, Candidates, MaskedBatch, Params, Rows

# (parameters, questions [R], bodies [R], length=L) -> the best span of each pair, its score, that of the rest
ReadPairs = Callable[..., tuple[Array, Array, Array]]
# (parameters, masked texts [B], candidates [B, K]) -> log p(z|x) [B, K], word logits [B, K, M, V]
ReadWords = Callable[[Params, MaskedBatch, Candidates], tuple[Array, Array]]

# Pairs whose spans are scored at once on a CPU, where XLA runs a large sum over features on all threads, each
# of them slowly: 320 rows of 184 tokens took 1.0 s of processor time together and 0.15 s by fours.
SCORED_AT_ONCE = 4


@dataclass(frozen=True)
class LoadedRun:
    """What a run folder holds, ready to answer. Make it with `open_run`.

    The index is opened, or built where there is none, when it is first asked for.
    """

    folder: Path
    phase: str  # of the checkpoint: import, ict, read, realm or qa
    step: int
    recorded_version: int | None  # version of the index the checkpoint was saved with
    config: Config
    corpus: Corpus
    models: Models
    params: Params  # all parts, on the device
    batch_size: int  # questions or texts of every compiled call
    fresh_index: bool
    own_corpus: bool  # the corpus is the one the config names

    @property
    def own_retriever(self) -> Literal["model", "bm25"]:
        """Where the blocks came from that the run was fine-tuned on."""
        return self.config.qa.retriever if self.phase == "qa" else "model"

    @property
    def blocks_stay(self) -> bool:
        """The phase did not train the block embedder, so an index of any of its steps is as good."""
        return self.phase == "read" or (self.phase == "qa" and not self.config.qa.end_to_end)

    @cached_property
    def version(self) -> IndexVersion:
        """The index over the corpus."""
        root, version = find_version(self)
        if version is not None:
            floor = self.config.index.recall_floor
            try:
                return load_version(root, version, corpus=self.corpus, recall_floor=floor)
            except IndexFault as fault:
                if not self.fresh_index or isinstance(fault, RecallError):
                    raise
                to_stderr(f"{fault} It is built again.")
        return build_index(self, root)

    @cached_property
    def lexical(self) -> LexicalIndex:
        """The BM25 index over the corpus."""
        name, count = f"index the words of {self.corpus.path}", len(self.corpus)
        with reporter(name, count, unit="blocks", write=to_stderr) as progress:
            return LexicalIndex.build(self.corpus, progress=progress.update)

    @cached_property
    def embed_queries(self) -> EmbedQueries:
        """Compiled: embed queries."""
        return query_embedder(self.models)

    @cached_property
    def read_pairs(self) -> ReadPairs:
        """Compiled, once a row length: the best span of question and block."""
        whole_words = self.config.qa.whole_words
        return jax.jit(
            partial(
                _read_pairs,
                models=self.models,
                is_continuation=self.corpus.tokenizer.is_continuation if whole_words else None,
                scored_at_once=SCORED_AT_ONCE if jax.default_backend() == "cpu" else None,
            ),
            static_argnames="length",
        )

    @cached_property
    def read_words(self) -> ReadWords:
        """Compiled: log p(z|x) and the words at the masked positions."""
        return jax.jit(
            partial(
                _read_words,
                models=self.models,
                block_length=self.config.shapes.block_length,
                joint_length=self.config.shapes.joint_length,
            )
        )

    def batches(self, count: int) -> Iterator[tuple[np.ndarray, int]]:
        """Cut `count` rows into batches of one size.

        Yields:
          Row numbers int `[batch_size]`, the last one repeated as padding, and how many of them are real.
        """
        for start in range(0, count, self.batch_size):
            rows = np.arange(start, start + self.batch_size)
            yield np.minimum(rows, count - 1), min(self.batch_size, count - start)


def open_run(
    folder: Path,
    *,
    corpus: Path | None = None,
    batch_size: int = 8,
    step: int | None = None,
    fresh_index: bool = False,
) -> LoadedRun:
    """Open the newest checkpoint of a run, on whatever devices this machine has.

    Args:
      folder: the run's folder.
      corpus: prepared corpus to search; None takes the one in the run's config.
      batch_size: questions or texts of every compiled call; answers depend on it by rounding alone.
      step: which checkpoint; None is the newest.
      fresh_index: do not be content with an index older than the parameters: embed the corpus anew.

    Raises:
      CheckpointError: the folder holds no checkpoint, or there is no corpus to search.
      CorpusError: the corpus cannot be opened.
      ConfigError: the corpus has another vocabulary than the run, or batches are empty.
    """
    if batch_size < 1:
        raise ConfigError("a batch has at least 1 row", got=batch_size, remedy="8 is usual.")
    checkpoints = Checkpoints(folder)
    record = checkpoints.record(step=step)
    config: Config = from_dict(Config, record["config"])
    path = corpus or (Path(config.corpus) if config.corpus else None)
    if path is None:
        raise CheckpointError(
            "a run is used with a corpus to search",
            got=f"none in the config of {folder}",
            remedy="Name a prepared corpus with --corpus.",
        )
    opened = Corpus.open(path)
    check_run_vocabulary(folder, opened)
    config = resolve(config, opened)
    found = checkpoints.latest() if step is None else step
    assert found is not None  # restoring the record has made sure
    params = jax.tree.map(jnp.asarray, checkpoints.restore_params(step=step))
    checkpoints.close()
    return LoadedRun(
        folder=folder,
        phase=record["phase"],
        step=found,
        recorded_version=record.get("index_version"),
        config=config,
        corpus=opened,
        models=models_of(config),
        params=params,
        batch_size=batch_size,
        fresh_index=fresh_index,
        own_corpus=bool(config.corpus) and path.resolve() == Path(config.corpus).resolve(),
    )


def find_version(run: LoadedRun) -> tuple[Path, int | None]:
    """Find the index that goes with the parameters and the corpus.

    An index of exactly these parameters is best. The one the checkpoint was saved with comes next: it may be
    a little older, unless the phase leaves the block embedder alone. Any other would be of other parameters.
    A rolling refresh leaves mixtures; a fresh index is none, and does not take the place of one in a run that
    may go on.

    Returns:
      Folder of the versions and the version, or None where it has to be built there.
    """
    root = run.folder / INDEX_FOLDER
    foreign = run.folder / f"{INDEX_FOLDER}-{run.corpus.content_hash[:12]}"
    wanted = [run.step]
    if run.recorded_version is not None and (run.blocks_stay or not run.fresh_index):
        wanted.append(run.recorded_version)
    unmixed = run.folder / f"{INDEX_FOLDER}-unmixed"
    for place in (unmixed, root, foreign):
        for version in wanted:
            if version in versions(place) and _fits(run, place, version):
                return place, version
    if not run.own_corpus:
        return foreign, None
    return (unmixed if run.step in versions(root) else root), None


def build_index(run: LoadedRun, root: Path) -> IndexVersion:
    """Embed the corpus with the run's parameters and publish the index in a folder of versions."""
    settings, tower = run.config.index, run.models.block_tower
    build = version_builder(
        run.config,
        models=run.models,
        corpus=run.corpus,
        root=root,
        mesh=None,
        storage=Storage(dtype=settings.storage),
    )
    with reporter(f"embed {run.corpus.path}", len(run.corpus), unit="blocks", write=to_stderr) as progress:
        return build(
            {tower: run.params[tower]},
            run.step,
            lambda: False,
            batch_size=min(settings.embed_batch_size, len(run.corpus)),
            progress=progress.update,
        )


def _fits(run: LoadedRun, root: Path, version: int) -> bool:
    try:
        manifest = read_manifest(root, version)
    except IndexFault:
        if run.fresh_index:
            return False  # it is built again
        raise
    return manifest.corpus_hash == run.corpus.content_hash and not (run.fresh_index and manifest.shards)


def _read_pairs(
    params: Params,
    question: Rows,
    body: Rows,
    *,
    length: int,
    models: Models,
    is_continuation: np.ndarray | None,
    scored_at_once: int | None,
) -> tuple[Array, Array, Array]:
    """Read pairs of question and body, R of each, in rows of `length` tokens.

    Returns:
      Best span int32 `[R]`, a row of the span table of `length`; its score float32 `[R]`, -inf without a
      span; and log sum exp of the scores of all others, float32 `[R]`.
    """
    pair_body = jax.tree.map(lambda leaf: leaf[:, None], body)
    joint = joint_tokens(question, pair_body, length=length)
    score = partial(models.spans_of, params)
    hidden = models.reader_states(params, joint)
    scores = (
        score(hidden) if scored_at_once is None else jax.lax.map(score, hidden, batch_size=scored_at_once)
    )
    allowed = span_allowed(
        body_mask(question, pair_body, length=length),
        max_width=models.reader.max_span_width,
        is_continuation=None if is_continuation is None else jnp.asarray(is_continuation)[joint.ids],
    )
    scores = jnp.where(allowed, scores, -jnp.inf)[:, 0]
    best = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    is_best = jax.nn.one_hot(best, scores.shape[-1], dtype=bool)
    rest = jax.nn.logsumexp(jnp.where(is_best, -jnp.inf, scores), axis=-1)
    return best, jnp.max(scores, axis=-1), rest


def _read_words(
    params: Params,
    batch: MaskedBatch,
    candidates: Candidates,
    *,
    models: Models,
    block_length: int,
    joint_length: int,
) -> tuple[Array, Array]:
    """Return log p(z|x) float32 `[B, K]` and word logits float32 `[B, K, M, V]`."""
    scores = retrieval_scores(params, None, batch.query, candidates, models=models, block_length=block_length)
    joint = joint_tokens(batch.query, candidates.blocks.body, length=joint_length)
    logits = models.word_logits(params, joint, batch.target_positions)
    return retrieval_log_prob(scores, candidates.is_valid), logits
