"""--smoke: any experiment with the same code, tiny sizes, and a few texts of its own."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from realm_jax.config import BertConfig, Config, MeshConfig, PhaseConfig, RealmConfig
from realm_jax.data.prepare import prepare

Phase = TypeVar("Phase", bound=PhaseConfig)

TEXTS = "smoke"  # in a run folder: texts, corpora, questions
STEPS = 4  # of every phase
ROWS = 4  # of a batch
TITLE_TOKENS, BODY_TOKENS = 8, 40  # widths of the prepared corpus
VOCABULARY = 300  # wordpieces

# When a country joined the United Nations, and its capital.
COUNTRIES = {
    "Peru": ("Lima", 1945),
    "Norway": ("Oslo", 1945),
    "Egypt": ("Cairo", 1945),
    "Chile": ("Santiago", 1945),
    "Greece": ("Athens", 1945),
    "Iceland": ("Reykjavik", 1946),
    "Spain": ("Madrid", 1955),
    "Ireland": ("Dublin", 1955),
    "Austria": ("Vienna", 1955),
    "Finland": ("Helsinki", 1955),
    "Hungary": ("Budapest", 1955),
    "Portugal": ("Lisbon", 1955),
    "Japan": ("Tokyo", 1956),
    "Ghana": ("Accra", 1957),
    "Senegal": ("Dakar", 1960),
    "Jamaica": ("Kingston", 1962),
    "Kenya": ("Nairobi", 1963),
    "Germany": ("Berlin", 1973),
}


def shrink(config: Config, *, folder: Path) -> Config:
    """Make an experiment tiny: its choices stay, its sizes go down, its texts are those of the folder.

    Args:
      config: the experiment.
      folder: where `write_texts` writes.

    Returns:
      The config, for one device. What is as small already stays, so shrinking twice is shrinking once.
    """
    # A training set's answers are all texts or all expressions; those of CuratedTREC are expressions.
    questions = "questions_curatedtrec" if "curatedtrec" in config.train_questions else "questions"
    model, shapes, index, refresh = config.model, config.shapes, config.index, config.refresh
    return replace(
        config,
        corpus=str(folder / "corpus"),
        text=str(folder / "text") if config.text else "",
        train_questions=str(folder / f"{questions}.jsonl"),
        dev_questions=str(folder / f"{questions}.jsonl"),
        model=replace(
            model,
            bert=_small(model.bert),
            embedder_bert=_small(model.embedder_bert),
            vocab_size=0,
            embedding_size=min(model.embedding_size, 8),
            span_hidden_size=min(model.span_hidden_size, 8),
            max_span_width=min(model.max_span_width, 4),
        ),
        shapes=replace(
            shapes,
            query_length=min(shapes.query_length, 24),
            block_length=min(shapes.block_length, TITLE_TOKENS + BODY_TOKENS),
            joint_length=min(shapes.joint_length, 64),
            max_masks=min(shapes.max_masks, 4),
            candidates=min(shapes.candidates, 4),
        ),
        mesh=MeshConfig(data=1),
        ict=_short(config.ict),
        read=_short_realm(config.read),
        realm=_short_realm(config.realm),
        qa=replace(
            _short(config.qa),
            candidates=min(config.qa.candidates, 2),
            beam=min(config.qa.beam, 16),
            max_answers=min(config.qa.max_answers, 4),
            strange_sentences=min(config.qa.strange_sentences, 2),
        ),
        index=replace(
            index,
            recall_floor=0.0,  # what is found among 18 blocks of an untrained model says nothing
            embed_batch_size=min(index.embed_batch_size, 8),
            recall_sample=min(index.recall_sample, 16),
            extra=min(index.extra, 4),
        ),
        refresh=replace(
            refresh, every=min(refresh.every, 2), lag=min(refresh.lag, 1), probes=min(refresh.probes, 4)
        ),
    )


def _small(bert: BertConfig) -> BertConfig:
    return replace(
        bert,
        hidden_size=min(bert.hidden_size, 16),
        num_layers=1,
        num_heads=min(bert.num_heads, 2),
        intermediate_size=min(bert.intermediate_size, 32),
        max_positions=min(bert.max_positions, 72),
    )


def _short(phase: Phase) -> Phase:
    batch_size = min(phase.batch_size, ROWS)
    return replace(
        phase,
        steps=min(phase.steps, STEPS),
        batch_size=batch_size,
        microbatches=min(phase.microbatches, batch_size),
        log_every=1,
        checkpoint_every=STEPS,
    )


def _short_realm(phase: RealmConfig) -> RealmConfig:
    return replace(
        _short(phase),
        candidates=min(phase.candidates, 4),
        evidence_pool=min(phase.evidence_pool, 6),
        evidence_window=min(phase.evidence_window, 16),
        window_steps=min(phase.window_steps, 2),
        oversample=min(phase.oversample, 2),
    )


def write_texts(folder: Path) -> None:
    """Write what `shrink` names: two prepared corpora of one vocabulary, and questions.

    The two tell the same facts in other words; both are the same wherever they are written, so one run may
    start from another's parameters.

    Args:
      folder: created if it is not there; what stands in it already is left as it is.
    """
    names = ("corpus", "text", "questions", "questions_curatedtrec")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for country, (capital, year) in COUNTRIES.items():
        known = f"The capital of {country} is {capital}. {country} joined the United Nations in {year}."
        told = f"In {year} the United Nations welcomed {country}. People came to {capital} to celebrate."
        rows["corpus"].append({"id": country, "title": country, "text": known})
        rows["text"].append({"title": f"News from {country}", "text": told})
        asked = f"When did {country} join the United Nations?"
        rows["questions"] += [
            {"question": f"What is the capital of {country}?", "answers": [capital]},
            {"question": asked, "answers": [str(year)]},
        ]
        expression = f"{year // 10}[{year % 10}]"
        rows["questions_curatedtrec"] += [{"question": asked, "answers": [expression], "is_regex": True}]
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        _write_lines(folder / f"{name}.jsonl", lines)
    for name, vocabulary in (("corpus", None), ("text", folder / "corpus")):
        if not (folder / name).is_dir():
            prepare(
                [folder / f"{name}.jsonl"],
                folder / name,
                tokenizer=vocabulary,
                vocab_size=None if vocabulary else VOCABULARY,
                max_block_tokens=BODY_TOKENS,
                title_tokens=TITLE_TOKENS,
                workers=1,
            )


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if not path.exists():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
