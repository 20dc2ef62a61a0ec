"""The peer: the public REALM of transformers 4.39.3 in PyTorch, run by an interpreter that has both.

Its weights are random: only its speed is looked at. benchmarks/beside.py starts it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sizes import CLS, READ, SEP, RawCorpus, Size, block_embeddings, some_blocks, step_tokens
from benchmarks.turns import Tasks, serve

Made = tuple[Callable[[], None], dict[str, Any]]


def config_of(size: Size, **changes: Any) -> Any:
    """Make the port's config."""
    from transformers import RealmConfig

    return RealmConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        retriever_proj_size=size.embedding,
        num_candidates=size.candidates,
        hidden_dropout_prob=size.dropout,
        attention_probs_dropout_prob=size.dropout,
        pad_token_id=0,
        **changes,
    )


def laid_out(first: np.ndarray, second: np.ndarray, length: int) -> dict[str, Any]:
    """Lay pairs of rows out: [CLS] first [SEP] second [SEP], cut or padded to `length` tokens L."""
    import torch

    shape = first.shape[:-1]
    cls, sep = np.full((*shape, 1), CLS, np.int64), np.full((*shape, 1), SEP, np.int64)
    room = length - first.shape[-1] - 3
    parts = [cls, first, sep, second[..., :room], sep]
    ids = np.concatenate(parts, axis=-1)
    segments = np.concatenate(
        [np.full(part.shape, n) for part, n in zip(parts, (0, 0, 0, 1, 1), strict=True)], -1
    )
    pad = [(0, 0)] * len(shape) + [(0, length - ids.shape[-1])]
    rows = {
        "input_ids": np.pad(ids, pad),
        "attention_mask": np.pad(np.ones_like(ids), pad),
        "token_type_ids": np.pad(segments, pad),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(row)) for name, row in rows.items()}


def with_null(rows: dict[str, Any], null: dict[str, Any]) -> dict[str, Any]:
    """Put the null block before the candidates of each text: `[B, K - 1, L]` and `[B, L]` to `[B, K, L]`."""
    import torch

    return {name: torch.cat([null[name][:, None], row], dim=1) for name, row in rows.items()}


def pretraining(size: dict[str, Any], *, logits: str) -> Made:
    """One step: scorer, encoder, loss, gradients, AdamW.

    Args:
      size: of `Size`.
      logits: `all`, word logits at every position of every row, as the port computes them; `masked`, at the
        masked positions alone, which gives the same loss (checked here).
    """
    import torch
    from transformers import RealmKnowledgeAugEncoder, RealmScorer

    of, tokens = Size(**size), step_tokens(Size(**size))
    torch.manual_seed(0)
    config = config_of(of)
    scorer, encoder = RealmScorer(config), RealmKnowledgeAugEncoder(config)
    parameters = list({id(p): p for model in (scorer, encoder) for p in model.parameters()}.values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)

    batch, joint_length = of.batch, of.query_length + of.block_length
    words = tokens.queries[:, 1:-1].astype(np.int64)
    empty = np.zeros((batch, 0), np.int64)
    query = {"input_ids": torch.from_numpy(tokens.queries.astype(np.int64))}
    query["attention_mask"] = torch.ones_like(query["input_ids"])
    query["token_type_ids"] = torch.zeros_like(query["input_ids"])
    blocks = with_null(
        laid_out(tokens.titles.astype(np.int64), tokens.bodies.astype(np.int64), of.block_length),
        laid_out(empty, empty, of.block_length),
    )
    repeated = np.repeat(words[:, None], of.candidates - 1, axis=1)
    joint = with_null(
        laid_out(repeated, tokens.bodies.astype(np.int64), joint_length), laid_out(words, empty, joint_length)
    )
    positions = torch.from_numpy(tokens.positions.astype(np.int64))
    targets = torch.from_numpy(tokens.targets.astype(np.int64))
    labels = torch.full((batch, joint_length), -100).scatter(1, positions, targets)

    def scores() -> Any:
        candidates = {f"candidate_{name}": row for name, row in blocks.items()}
        return scorer(**query, **candidates, return_dict=True).relevance_score

    def loss_of_all(relevance: Any) -> Any:
        mask = (labels >= 0).long()
        return encoder(
            **joint, relevance_score=relevance, labels=labels, mlm_mask=mask, return_dict=True
        ).loss

    def loss_of_masked(relevance: Any) -> Any:
        rows = {name: row.flatten(0, 1) for name, row in joint.items()}
        states = encoder.realm(**rows, return_dict=True).last_hidden_state.unflatten(0, (batch, -1))
        places = positions[:, None, :, None].expand(-1, of.candidates, -1, of.hidden)
        words = encoder.cls(states.gather(2, places)).log_softmax(-1)
        gold = words.gather(-1, targets[:, None, :, None].expand(-1, of.candidates, -1, 1))[..., 0]
        return -(gold + relevance.log_softmax(-1)[..., None]).logsumexp(1).mean()

    loss_of = {"all": loss_of_all, "masked": loss_of_masked}[logits]
    scorer.eval(), encoder.eval()
    with torch.no_grad():
        first, same = float(loss_of(scores())), float(loss_of_all(scores()))
    assert abs(first - same) < 1e-3, "both ways of computing the loss must agree"
    scorer.train(), encoder.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(scores())
        loss.backward()
        optimizer.step()
        loss.item()

    step()
    return step, {"first_loss": first, "parameters": sum(p.numel() for p in parameters)}


def embedding(size: dict[str, Any]) -> Made:
    """Embed a batch of blocks, all as long as they may be."""
    import torch
    from transformers import RealmEmbedder

    of, tokens = Size(**size), step_tokens(Size(**size))
    titles, bodies = (
        rows.reshape(-1, rows.shape[-1]).astype(np.int64) for rows in (tokens.titles, tokens.bodies)
    )
    blocks = laid_out(titles, bodies, of.block_length)
    embedder = RealmEmbedder(config_of(of)).eval()

    def run() -> None:
        with torch.no_grad():
            embedder(**blocks, return_dict=True)

    run()
    return run, {"blocks": len(titles)}


def corpus_embedding(size: dict[str, Any], *, corpus: str, blocks: int, batch: int) -> Made:
    """Embed real blocks in the order of the corpus, every batch padded to its longest block."""
    import torch
    from transformers import RealmEmbedder

    raw = RawCorpus(corpus)
    rows = [raw.row(int(block_id)) for block_id in some_blocks(blocks, len(raw))]
    embedder = RealmEmbedder(config_of(Size(**size))).eval()

    def run() -> None:
        for start in range(0, len(rows), batch):
            part = [torch.from_numpy(row) for row in rows[start : start + batch]]
            ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True)
            with torch.no_grad():
                embedder(input_ids=ids, attention_mask=(ids != 0).long(), return_dict=True)

    run()
    return run, {"blocks": len(rows)}


def answering(size: dict[str, Any], *, corpus: str, questions: list[str]) -> Made:
    """Answer questions one at a time, as the port must: tokens, search, reading, the words of the answer."""
    import torch
    from transformers import RealmForOpenQA, RealmRetriever, RealmTokenizerFast

    raw = RawCorpus(corpus)
    tokenizer = RealmTokenizerFast(vocab_file=str(Path(corpus) / "vocab.txt"), do_lower_case=True)
    records = np.array([raw.body(block_id) for block_id in range(len(raw))], dtype=object)
    of = replace(Size(**size), vocabulary=len(tokenizer))
    config = config_of(of, reader_beam_size=READ, searcher_beam_size=READ + 8, num_block_records=len(raw))
    model = RealmForOpenQA(config, RealmRetriever(records, tokenizer)).eval()
    model.block_emb.copy_(torch.from_numpy(block_embeddings(len(raw), of.embedding)))

    def run() -> None:
        for question in questions:
            with torch.no_grad():
                found = model(**tokenizer([question], return_tensors="pt"), return_dict=True)
            tokenizer.decode(found.predicted_answer_ids)

    run()
    return run, {"questions": len(questions)}


TASKS: Tasks = {
    "pretraining": pretraining,
    "embedding": embedding,
    "corpus_embedding": corpus_embedding,
    "answering": answering,
}

if __name__ == "__main__":
    serve(TASKS)
