"""Time what people wait for beside the public PyTorch port of REALM (transformers 4.39.3), on a CPU.

    python -m venv build/peers && build/peers/bin/pip install -r benchmarks/requirements-peers.txt
    python -m benchmarks.beside step --peer build/peers/bin/python
    python -m benchmarks.beside embedding --peer build/peers/bin/python --corpus build/wiki_nq_mini
    python -m benchmarks.beside answers --peer build/peers/bin/python --corpus build/wiki_nq_mini \\
      --questions data/wiki_nq_mini/qa_dev.jsonl

Each side has its own interpreter and the same threads; they take turns. Printed are the medians, their ratio,
the range of the ratios of neighbouring repetitions, and the ratio of processor time, which other work on the
machine changes least. Weights are random.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from benchmarks.sizes import Size
from benchmarks.turns import Side, Took, ratio, take_turns
from realm_jax.heap import OPTIONS

# Both sides have the allocator that runs have: large arrays of every repetition cost no page faults.
STEADY_MEMORY = {name: str(value) for name, (_, value) in OPTIONS.items()}
AT_ONCE = 8  # questions whose blocks we read in one call: few enough that rows of one length come together

# name of the task, its settings of our side, those of the port, and how many times faster we are asked to be
Comparison = tuple[str, dict[str, Any], dict[str, Any], float]


def step(args: argparse.Namespace) -> dict[str, Comparison]:
    """One pre-training step: the port as it is, and with its word logits at the masked positions alone."""
    size = {"size": asdict(args.size)}
    return {
        "the port as it is": ("pretraining", size, size | {"logits": "all"}, 5.0),
        "the port, logits of masked words only": ("pretraining", size, size | {"logits": "masked"}, 2.0),
    }


def embedding(args: argparse.Namespace) -> dict[str, Comparison]:
    """Blocks of 128 tokens; and blocks of a corpus, for which the port pads each batch to its longest."""
    equal = {"size": asdict(replace(args.size, candidates=9))}  # a batch of 64
    found = {"equal length": ("embedding", equal, equal, 2.0)}
    if args.corpus:
        real = {"size": asdict(args.size), "corpus": args.corpus, "blocks": args.blocks}
        found["real blocks"] = ("corpus_embedding", real | {"batch": 256}, real | {"batch": args.batch}, 3.0)
    return found


def answers(args: argparse.Namespace) -> dict[str, Comparison]:
    """Open-domain questions: our batches; the port takes one question at a time."""
    if not (args.corpus and args.questions):
        raise SystemExit("answers: name a prepared corpus with --corpus and a question set with --questions")
    with open(args.questions, encoding="utf-8") as file:
        asked = [json.loads(line)["question"] for line, _ in zip(file, range(args.asked), strict=False)]
    theirs = {"size": asdict(args.size), "corpus": args.corpus, "questions": asked}
    return {"questions": ("answering", theirs | {"batch": AT_ONCE}, theirs, 10.0)}


COMPARISONS: dict[str, Callable[[argparse.Namespace], dict[str, Comparison]]] = {
    "step": step,
    "embedding": embedding,
    "answers": answers,
}


def report(name: str, ours: list[Took], theirs: list[Took], *, asked: float) -> str:
    """Put one comparison into a line."""
    times, least, most = ratio([one.seconds for one in theirs], [one.seconds for one in ours])
    processor, _, _ = ratio([one.processor for one in theirs], [one.processor for one in ours])
    here, there = (1000 * statistics.median(one.seconds for one in side) for side in (ours, theirs))
    return (
        f"{name}: ours {here:.1f} ms, theirs {there:.1f} ms: {times:.2f}x "
        f"({least:.2f} to {most:.2f} in {len(ours)} turns; processor time {processor:.2f}x; asked {asked:g}x)"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=sorted(COMPARISONS))
    parser.add_argument(
        "--peer", help="interpreter with benchmarks/requirements-peers.txt; absent: ours alone"
    )
    parser.add_argument("--corpus", help="a prepared corpus")
    parser.add_argument("--questions", help="a question set, JSONL")
    parser.add_argument("--blocks", type=int, default=2048, help="of the corpus, drawn at random")
    parser.add_argument("--batch", type=int, default=64, help="blocks the port embeds at once")
    parser.add_argument("--asked", type=int, default=64, help="questions")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    dtypes = ("float32", "bfloat16")
    parser.add_argument(
        "--dtype", choices=dtypes, default="float32", help="of our side; the port's is float32"
    )
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--size.{name}", type=type(value), default=value)
    args = parser.parse_args(arguments)
    args.size = Size(**{name: getattr(args, f"size.{name}") for name in asdict(Size())})
    for name, (task, mine, other, asked) in COMPARISONS[args.what](args).items():
        with ExitStack() as sides:
            start = partial(Side, threads=args.threads, environment=STEADY_MEMORY)
            ours = sides.enter_context(start("benchmarks.ours", python=sys.executable))
            said = ours.prepare(task, **mine, dtype=args.dtype)
            runs: dict[str, Callable[[], Took]] = {"ours": partial(ours.run, task)}
            if args.peer:
                port = sides.enter_context(start("benchmarks.port", python=args.peer))
                print(f"{name}: ours {said}, theirs {port.prepare(task, **other)}", flush=True)
                runs["theirs"] = partial(port.run, task)
            took = take_turns(runs, repeats=args.repeats)
        if args.peer:
            print(report(name, took["ours"], took["theirs"], asked=asked), flush=True)
        else:
            median = 1000 * statistics.median(one.seconds for one in took["ours"])
            print(f"{name}: ours {median:.1f} ms, {said}", flush=True)


if __name__ == "__main__":
    main()
