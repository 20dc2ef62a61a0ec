"""What a run is made of: one frozen dataclass a part, checked when built.

An experiment file returns a `Config`; the command line overrides single values by dotted name. Sizes are in
tokens, steps or rows as the comment says. Leaf functions never see these classes.
"""

import json
from dataclasses import dataclass, field
from typing import Literal

from realm_jax.checks import from_dict, require, require_above, require_least, require_share
from realm_jax.checks import to_dict as to_dict  # for those who save a config

CONFIG_FILE = "config.json"  # of a run: every value
RetrieverName = Literal["model", "bm25", "null"]  # of a search: the run's own, lexical, none


@dataclass(frozen=True)
class BertConfig:
    """The size of one BERT."""

    hidden_size: int = 768  # width of the states
    num_layers: int = 12  # Transformer layers
    num_heads: int = 12  # attention heads; must divide the hidden size
    intermediate_size: int = 3072  # width of the feed-forward layers
    max_positions: int = 512  # longest row, tokens
    type_vocab_size: int = 2  # segments
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu_tanh"  # of the feed-forward layers
    layer_norm_eps: float = 1e-12  # epsilon of the LayerNorms
    dropout: float = 0.1  # rate, in training
    # what fresh parameters start from; near_identity: for narrow models trained from nothing
    start: Literal["bert", "near_identity"] = "bert"

    def __post_init__(self) -> None:
        require_least(self, 0, "hidden_size")  # 0 stands for another BERT's, in `model.embedder_bert`
        require_least(
            self, 1, "num_layers", "num_heads", "intermediate_size", "max_positions", "type_vocab_size"
        )
        require_above(self, "layer_norm_eps")
        require(
            self.hidden_size % self.num_heads == 0,
            "bert.num_heads must divide bert.hidden_size",
            got=f"{self.num_heads} heads for {self.hidden_size}",
            remedy="Choose a number of heads that divides the hidden size.",
        )
        require(
            0.0 <= self.dropout < 1.0,
            "bert.dropout must be in [0, 1)",
            got=self.dropout,
            remedy="0.1 is BERT's own.",
        )


@dataclass(frozen=True)
class ModelConfig:
    """Embedder, knowledge-augmented encoder and reader: BERTs of one size, or the embedder of its own."""

    bert: BertConfig = field(default_factory=BertConfig)  # of all three
    # of the embedder, which may be smaller; hidden size 0: `bert`
    embedder_bert: BertConfig = field(default_factory=lambda: BertConfig(hidden_size=0))
    vocab_size: int = 0  # wordpieces; 0: that of the corpus
    embedding_size: int = 128  # dimension of the index
    two_towers: bool = False  # separate embedders for queries and blocks
    span_hidden_size: int = 256  # hidden width of the span scorer
    span_norm_eps: float = 1e-3  # epsilon of the span scorer's LayerNorm
    max_span_width: int = 10  # widest answer, tokens
    pooling: Literal["pooler", "cls", "mean"] = "pooler"  # what the embedder makes of a row's states
    normalize: bool = False  # scale embeddings to length 1
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32

    def __post_init__(self) -> None:
        require_least(self, 0, "vocab_size", "embedding_size")
        require_least(self, 1, "span_hidden_size", "max_span_width")
        require_above(self, "span_norm_eps")
        require_least(self.bert, 1, "hidden_size")

    @property
    def retriever_bert(self) -> BertConfig:
        """The embedder's BERT."""
        return self.embedder_bert if self.embedder_bert.hidden_size else self.bert


@dataclass(frozen=True)
class ShapeConfig:
    """The fixed shapes of a batch, in tokens."""

    query_length: int = 96  # tokens of [CLS] x [SEP]
    block_length: int = 312  # tokens of [CLS] title [SEP] body [SEP], what the embedder reads
    joint_length: int = 384  # tokens of [CLS] x [SEP] body [SEP], what the encoder and the reader read
    max_masks: int = 10  # most masked tokens a text
    candidates: int = 8  # blocks a text is read with, the null block included
    null_block: bool = True  # an empty block is always the first candidate

    def __post_init__(self) -> None:
        require_least(self, 1, "query_length", "block_length", "max_masks")
        least = 2 if self.null_block else 1
        require(
            self.candidates >= least,
            f"shapes.candidates must be at least {least}",
            got=self.candidates,
            remedy="Count the null block in; REALM uses 8.",
        )
        require(
            self.joint_length > self.query_length,
            "shapes.joint_length must exceed shapes.query_length",
            got=f"{self.joint_length} and {self.query_length}",
            remedy="The block is read behind the query: add its length.",
        )


@dataclass(frozen=True)
class MeshConfig:
    """The devices of a run in a grid; the product of the sizes is their number."""

    data: int = 0  # devices the batch is split over; 0: all that the other two leave
    fsdp: int = 1  # devices that parameters, optimiser and batch are split over
    tensor: int = 1  # devices that heads, feed-forward width and vocabulary are split over

    def __post_init__(self) -> None:
        require(
            self.data >= 0 and self.fsdp >= 1 and self.tensor >= 1,
            "mesh.fsdp and mesh.tensor must be at least 1, mesh.data at least 0",
            got=f"{self.data} x {self.fsdp} x {self.tensor}",
            remedy="1 leaves an axis unused; mesh.data 0 takes all devices that are left.",
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """BERT's optimiser: AdamW, linear warm-up and decay, clipping by global norm."""

    learning_rate: float = 3e-5  # peak
    warmup_steps: int = 0  # linear warm-up; 0: min(10000, max(100, steps / 10)), the rule of the paper
    weight_decay: float = 0.01  # of kernels and embeddings, decoupled
    clip_norm: float = 1.0  # largest global norm of the gradient

    def __post_init__(self) -> None:
        require_least(self, 0, "learning_rate", "warmup_steps", "weight_decay")
        require_above(self, "clip_norm")


@dataclass(frozen=True)
class PhaseConfig:
    """One training phase."""

    steps: int  # length of the phase
    batch_size: int  # rows
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    log_every: int = 50  # steps between lines of metrics
    checkpoint_every: int = 1000  # steps between checkpoints
    keep_checkpoints: int = 2  # newest ones kept
    microbatches: int = 1  # parts of a batch in memory one after the other; their gradients add up
    rematerialisation: Literal["none", "full", "matmuls"] = "none"  # kept of a layer: all, nothing, products

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "checkpoint_every", "keep_checkpoints"):
            require(
                getattr(self, name) >= 1,
                f"{name} must be at least 1",
                got=getattr(self, name),
                remedy="To leave a phase out, do not run its command.",
            )
        require(
            self.microbatches >= 1 and self.batch_size % self.microbatches == 0,
            "microbatches must divide batch_size",
            got=f"{self.microbatches} for {self.batch_size} rows",
            remedy="1 takes the batch whole.",
        )


@dataclass(frozen=True)
class IctConfig(PhaseConfig):
    """Inverse cloze task: the warm start of the embedder."""

    steps: int = 100_000  # length of the phase
    batch_size: int = 4096  # pseudo-queries, and blocks
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-4))
    keep_probability: float = 0.1  # how often the pseudo-query stays in its block

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self, "keep_probability")


@dataclass(frozen=True)
class RealmConfig(PhaseConfig):
    """REALM pre-training, and the reading warm-up before it."""

    steps: int = 200_000  # length of the phase
    batch_size: int = 512  # texts
    masker: Literal["salient", "random_span", "uniform"] = "salient"  # what is masked
    marginal: Literal["token", "sequence"] = "token"  # what is marginalised: each token, or all of a text
    weights: Literal["retrieval", "uniform"] = "retrieval"  # uniform: p(z|x) = 1/K, trains the encoder alone
    swap_probability: float = 0.0  # share of batches whose facts are swapped, in text and blocks alike
    swap_share: float = 0.8  # of the salient spans of a batch with swapped facts, the share replaced
    retriever_learning_rate: float = 0.0  # peak; 0: that of the optimizer
    candidates: int = 0  # blocks a text is read with; 0: shapes.candidates
    evidence_pool: int = 0  # reading warm-up: candidates that hold the masked span first, out of this many
    evidence_window: int = 0  # reading warm-up: body tokens kept around the masked span; 0 keeps all
    window_steps: int = 0  # reading warm-up: first steps, in which bodies are cut to the evidence window
    encoder_from_embedder: bool = False  # start the encoder's BERT from the embedder's
    oversample: int = 1  # rows drawn for each row kept; those with evidence are kept first
    span_weight: float = 0.0  # of a loss that makes the reader's span scorer point at the masked span
    pointing_trains_retriever: bool = False  # the span loss moves the embedder too: blocks are marginalised
    # find a step's blocks during the step before, with the parameters before that one; not with `fused`
    ahead: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self, "swap_probability", "swap_share")
        require_least(self, 0, "retriever_learning_rate", "candidates", "span_weight")
        require_least(self, 0, "evidence_pool", "evidence_window", "window_steps")
        require_least(self, 1, "oversample")
        require(
            self.evidence_window >= 2 or self.evidence_window == self.window_steps == 0,
            "window_steps cut bodies to an evidence_window of at least 2 tokens, [SEP] among them",
            got=f"{self.window_steps} steps, a window of {self.evidence_window}",
            remedy="24 is usual; leave both at 0 to read blocks whole.",
        )
        require(
            self.span_weight > 0 and self.weights == "retrieval" or not self.pointing_trains_retriever,
            "pointing_trains_retriever needs a span_weight, and weights that are retrieved",
            got=f"span_weight {self.span_weight}, weights {self.weights}",
            remedy="Set span_weight to 1, or leave it off.",
        )


@dataclass(frozen=True)
class QaConfig(PhaseConfig):
    """Open-domain QA fine-tuning."""

    steps: int = 20_000  # length of the phase
    batch_size: int = 16  # questions
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-5))
    loss: Literal["marginal", "orqa", "emdr2", "pdist"] = "marginal"  # and how answers are chosen
    candidates: int = 5  # blocks read a question
    max_answers: int = 8  # answer spans kept a block
    whole_words: bool = False  # answers are made of whole words, not of pieces; off: as ORQA
    swap_probability: float = 0.0  # share of answers, titles and salient spans that are replaced in training
    drop_sentences: float = 0.0  # share of a block's other sentences left out, where there are swaps
    strange_sentences: int = 0  # most sentences of other blocks mixed in, where there are swaps
    retriever: Literal["model", "bm25"] = "model"  # model: the run's embedder and index; bm25: lexical, fixed
    beam: int = 0  # blocks in which loss `orqa` looks for the answer, 5000 in ORQA; 0: those that are read
    positives_first: bool = False  # in training, read the beam's blocks with an answer before the others
    end_to_end: bool = False  # train the block embedder too, and refresh the index as `refresh` says
    ahead: bool = True  # find a step's blocks during the step before, with the parameters before that one

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self, "swap_probability", "drop_sentences")
        require_least(self, 0, "strange_sentences", "beam")
        require_least(self, 1, "candidates", "max_answers")
        require(
            self.beam == 0 or (self.beam >= self.candidates and self.loss == "orqa"),
            "qa.beam is at least qa.candidates, and looked at by qa.loss orqa alone",
            got=f"beam {self.beam}, candidates {self.candidates}, loss {self.loss}",
            remedy="Set qa.loss to orqa, or leave qa.beam at 0.",
        )
        require(
            self.beam > 0 or not self.positives_first,
            "qa.positives_first chooses from qa.beam",
            got="a beam of 0",
            remedy="Set qa.beam and qa.loss orqa, or leave it off.",
        )
        require(
            self.retriever == "model" or not (self.beam or self.end_to_end),
            "qa.beam and qa.end_to_end train the model's retriever",
            got=f"retriever {self.retriever}",
            remedy="Leave them off with BM25, which is not trained.",
        )


@dataclass(frozen=True)
class IndexConfig:
    """The engine of the index and what is asked of it."""

    # on the devices, or (scann) on the host and sublinear; fused: `exact`, and in REALM inside the step
    engine: Literal["exact", "approx", "fused", "scann"] = "scann"
    storage: Literal["float32", "bfloat16", "int8"] = "float32"  # of a row on the devices
    recall_k: int = 10  # k of the measured recall
    recall_floor: float = 0.9  # recall@k against exact search below which an index is refused
    recall_sample: int = 256  # queries of that measurement
    embed_batch_size: int = 256  # blocks embedded at once
    extra: int = 8  # blocks searched beyond the candidates, against trivial and duplicate ones

    def __post_init__(self) -> None:
        require_share(self, "recall_floor")
        require_least(self, 1, "recall_k", "recall_sample", "embed_batch_size")
        require_least(self, 0, "extra")
        require(
            self.engine != "scann" or self.storage == "float32",
            "index.storage is of the engines on the devices: `exact`, `approx` and `fused`",
            got=f"{self.storage} for {self.engine}",
            remedy="Leave it at float32: scann chooses how it keeps its rows itself.",
        )


@dataclass(frozen=True)
class RefreshConfig:
    """When the index is embedded anew, by whom, and when it is adopted."""

    every: int = 500  # steps between snapshots; 0 never refreshes
    # thread: beside training, on its devices; inline: training waits; submesh: on devices of its own;
    # process: another process, here or elsewhere
    worker: Literal["thread", "inline", "submesh", "process"] = "thread"
    devices: int = 0  # submesh: so many of the last devices, of each process as many, do not train but embed
    exchange: str = ""  # process: folder or gs://... shared with a worker elsewhere; empty: one is started
    silence_seconds: float = 120.0  # process elsewhere: silent for so long, it counts as dead
    rolling: int = 1  # parts of the blocks; each refresh embeds one, in turn, the others stay as they are
    adoption: Literal["when_ready", "at_lag"] = "when_ready"  # at_lag: reproducible bit for bit
    lag: int = 0  # steps from snapshot to adoption under at_lag
    retries: int = 2  # failed refreshes in a row that are tried again
    probes: int = 64  # queries of the fixed set on which stale and fresh results are compared

    def __post_init__(self) -> None:
        require_least(self, 0, "every", "lag", "retries")
        require_least(self, 1, "probes")
        require(
            self.adoption != "at_lag" or 1 <= self.lag <= max(self.every, 1),
            "refresh.lag must be between 1 and refresh.every under at_lag",
            got=f"lag {self.lag}, every {self.every}",
            remedy="Use when_ready, or set refresh.lag.",
        )
        require(
            (self.devices >= 1) == (self.worker == "submesh") and self.devices >= 0,
            "refresh.devices is the number of devices of refresh.worker submesh",
            got=f"{self.devices} for {self.worker}",
            remedy="Set both, or leave refresh.devices at 0.",
        )
        require(
            not self.exchange or self.worker == "process",
            "refresh.exchange is the folder of refresh.worker process",
            got=f"{self.exchange} for {self.worker}",
            remedy="Set both, or leave refresh.exchange empty.",
        )
        require(
            self.rolling >= 1 and self.silence_seconds > 0,
            "refresh.rolling is at least 1, refresh.silence_seconds more than 0",
            got=f"{self.rolling} and {self.silence_seconds}",
            remedy="A rolling of 1 embeds all blocks at once.",
        )


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    name: str = "realm"  # of the experiment
    seed: int = 0  # of parameters, order, masks, swaps and dropout
    corpus: str = ""  # prepared corpus that is searched (Z)
    text: str = ""  # prepared corpus that is masked (X); empty: the same as `corpus`
    train_questions: str = ""  # question set to fine-tune on, JSONL or tfds:name:split
    dev_questions: str = ""  # question set to evaluate on, JSONL or tfds:name:split
    model: ModelConfig = field(default_factory=ModelConfig)
    shapes: ShapeConfig = field(default_factory=ShapeConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    ict: IctConfig = field(default_factory=IctConfig)
    read: RealmConfig = field(
        default_factory=lambda: RealmConfig(
            steps=10000, weights="uniform", swap_probability=1.0, candidates=1, evidence_pool=20, oversample=3
        )
    )
    realm: RealmConfig = field(default_factory=RealmConfig)
    qa: QaConfig = field(default_factory=QaConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    refresh: RefreshConfig = field(default_factory=RefreshConfig)

    def __post_init__(self) -> None:
        require(
            0 <= self.seed < 1 << 63,
            "seed must be at least 0, and below 2**63",
            got=self.seed,
            remedy="0 is usual.",
        )
        for name in ("read", "realm"):
            self._check_candidates(name, getattr(self, name))

    def _check_candidates(self, name: str, phase: RealmConfig) -> None:
        wanted = phase.candidates or self.shapes.candidates
        least = 2 if self.shapes.null_block and not phase.evidence_pool else 1
        require(
            wanted >= least,
            f"{name}.candidates must be at least {least}, or 0",
            got=wanted,
            remedy="Count the null block in; with it alone nothing is retrieved.",
        )
        require(
            not phase.evidence_pool or phase.evidence_pool >= wanted,
            f"{name}.evidence_pool, of which candidates are chosen, is 0 or no fewer than they are",
            got=f"a pool of {phase.evidence_pool} for {wanted} candidates",
            remedy="20 is usual.",
        )


def from_json(text: str) -> Config:
    """Read a config saved by `json.dumps(to_dict(config))`."""
    return from_dict(Config, json.loads(text))
