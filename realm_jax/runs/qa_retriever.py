"""The retriever of fine-tuning: the run's own index, fixed or refreshed, or BM25."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jax.sharding import Mesh

from realm_jax.config import Config, QaConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Question, question_rows
from realm_jax.hosts.rows import BatchShare
from realm_jax.index.lexical import LexicalIndex
from realm_jax.models.build import Models
from realm_jax.progress import reporter
from realm_jax.runs.candidates import Timed, embed_probes, query_embedder
from realm_jax.runs.live_index import INDEX_FOLDER
from realm_jax.runs.question_inputs import IndexRetriever, LexicalRetriever, Retriever
from realm_jax.runs.refreshing import RefreshHook, open_live_index, saved_versions
from realm_jax.train.relevance import (
    Relevance,
    end_to_end_relevance,
    given_relevance,
    query_side_relevance,
)
from realm_jax.types import Params


@dataclass(frozen=True)
class RetrieverPart:
    """What the retriever brings to the phase."""

    retriever: Retriever
    relevance: Relevance  # how the step scores blocks
    learning_rates: Mapping[str, float]  # of the parts of the retriever that are trained
    refresh: RefreshHook | None = None  # None: there is no index
    version: Callable[[], int] = lambda: 0  # of the index in use
    close: Callable[[], None] = lambda: None


def lexical_part(questions: Sequence[Question], corpus: Corpus) -> RetrieverPart:
    """Retrieve by BM25; the reader alone is trained, and no block is embedded."""
    with reporter("qa: index the words", len(corpus), unit="blocks") as progress:
        index = LexicalIndex.build(corpus, progress=progress.update)
    return RetrieverPart(LexicalRetriever(questions, index), given_relevance, {})


def index_part(
    config: Config,
    workdir: Path,
    *,
    models: Models,
    params: Params,
    corpus: Corpus,
    questions: Sequence[Question],
    mesh: Mesh | None,
    timed: Timed,
    share: BatchShare,
) -> RetrieverPart:
    """Retrieve with the run's embedder from an index that stays, or, end to end, is refreshed.

    Raises:
      CheckpointError: the checkpoint in the folder is of another phase or config.
    """
    settings = config.qa
    relevance: Relevance = partial(query_side_relevance, models=models)
    if settings.end_to_end:
        relevance = partial(end_to_end_relevance, models=models, block_length=config.shapes.block_length)
    saved = saved_versions(workdir)
    refresher, live = open_live_index(
        config,
        workdir,
        phase_name="qa",
        models=models,
        params=params,
        corpus=corpus,
        every=config.refresh.every if settings.end_to_end else 0,
        mesh=mesh,
    )
    embed = query_embedder(models, mesh)
    probes = question_rows(
        questions[: config.refresh.probes], corpus.tokenizer, query_length=config.shapes.query_length
    )
    refresh = RefreshHook(
        refresher,
        live,
        tower=models.block_tower,
        root=workdir / INDEX_FOLDER,
        probe=embed_probes(embed, probes, mesh),
        probe_k=settings.candidates,
        keep_checkpoints=settings.keep_checkpoints,
        saved=saved,
    )
    return RetrieverPart(
        IndexRetriever(embed, live, timed=timed, share=share),
        relevance,
        retriever_rates(settings, models),
        refresh,
        version=lambda: live.current.version,
        close=refresher.close,
    )


def retriever_rates(settings: QaConfig, models: Models) -> dict[str, float]:
    """Choose what of the retriever is trained, and how fast: nothing of BM25, the query side, or both."""
    if settings.retriever == "bm25":
        return {}
    towers = (models.query_tower, models.block_tower) if settings.end_to_end else (models.query_tower,)
    return dict.fromkeys(towers, settings.optimizer.learning_rate)
