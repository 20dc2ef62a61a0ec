"""BM25 as retriever, a reader that starts from MiniLM and compares two blocks: the best answers found so far.

Source: as wiki_bm25_reader.py, with ORQA's loss over the spans of both blocks, nearly three times the steps,
  and in bfloat16, which processors with matrix units for it (AMX) compute 1.6 times as fast.
Expected: docs/RESULTS.md.
Cost: docs/RESULTS.md.
Command: realm_jax finetune --workdir runs/wiki_minilm-0/qa_best \
  --experiment experiments/wiki_best_reader.py --encoder-from runs/minilm
"""

import dataclasses
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    base = load_experiment(Path(__file__).with_name("wiki_bm25_reader.py"))
    qa = dataclasses.replace(base.qa, loss="orqa", candidates=2, steps=800)
    model = dataclasses.replace(base.model, dtype="bfloat16")
    return dataclasses.replace(base, name="wiki_best_reader", qa=qa, model=model)
