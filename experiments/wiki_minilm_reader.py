"""MiniLM as retriever and as start of the reader, fine-tuned on questions about Wikipedia passages.

Source: see wiki_minilm.py. MiniLM was trained on these question sets: an upper reference, not zero-shot.
Expected: docs/RESULTS.md.
Cost: docs/RESULTS.md.
Command: realm_jax finetune --workdir runs/wiki_minilm-0/qa_minilm \
  --experiment experiments/wiki_minilm_reader.py --start-from runs/minilm
"""

import dataclasses
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import BertConfig, Config


def config() -> Config:
    """Return the experiment."""
    base = load_experiment(Path(__file__).with_name("wiki_minilm.py"))
    model = dataclasses.replace(
        base.model, embedder_bert=BertConfig(hidden_size=0), embedding_size=0, pooling="mean", normalize=True
    )
    return dataclasses.replace(base, name="wiki_minilm_reader", model=model)
