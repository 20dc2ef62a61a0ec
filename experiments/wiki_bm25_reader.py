"""BM25 as retriever, a reader that starts from MiniLM.

Source: sparse retrieval and a reader, the baseline of open-domain QA; see wiki_minilm.py.
Expected: docs/RESULTS.md.
Cost: docs/RESULTS.md.
Command: realm_jax finetune --workdir runs/wiki_minilm-0/qa_bm25 \
  --experiment experiments/wiki_bm25_reader.py --encoder-from runs/minilm
"""

import dataclasses
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    base = load_experiment(Path(__file__).with_name("wiki_minilm.py"))
    qa = dataclasses.replace(base.qa, retriever="bm25", loss="marginal", beam=0, positives_first=False)
    return dataclasses.replace(base, name="wiki_bm25_reader", qa=qa)
