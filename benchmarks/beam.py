"""Time the finding of answers in the beams of a batch of questions, from a warm file cache.

    python benchmarks/beam.py --corpus build/wiki_nq_mini --questions data/wiki_nq_mini/qa_train.jsonl
    python benchmarks/beam.py --corpus build/wiki_nq_mini --questions curated_trec.jsonl --batches 3

Asked: 5000 blocks a question in under 5 ms. Every beam is gone through twice: what a regular expression
found in a text is remembered.
"""

import argparse
import time

import numpy as np

from realm_jax.config import QaConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Questions
from realm_jax.runs.qa import answer_finder
from realm_jax.text.regex import RegexMatcher


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="a prepared corpus")
    parser.add_argument("--questions", required=True, help="a question set")
    parser.add_argument("--beam", type=int, default=5000, help="blocks a question, drawn at random")
    parser.add_argument("--batch", type=int, default=16, help="questions")
    parser.add_argument("--batches", type=int, default=30)
    args = parser.parse_args()
    corpus, questions = Corpus.open(args.corpus), Questions.load(args.questions)
    rng = np.random.default_rng(0)
    batches = [
        (
            rng.choice(len(questions), args.batch, replace=False),
            rng.integers(0, len(corpus), (args.batch, args.beam)).astype(np.int32),
        )
        for _ in range(args.batches)
    ]
    with RegexMatcher() as matcher:
        _, find = answer_finder(
            questions,
            corpus,
            max_answers=QaConfig.max_answers,
            swap_probability=0.0,
            drop_sentences=0.0,
            strange_sentences=0,
            max_length=1,
            seed=0,
            matcher=matcher,
        )
        np.asarray(corpus.arrays["bodies"]).sum()  # warms the cache
        for name in ("first pass", "second pass"):
            times, found = [], 0
            for numbers, block_ids in batches:
                start = time.perf_counter()
                found += int(find(numbers, block_ids).sum())
                times.append(1000 * (time.perf_counter() - start) / args.batch)
            times.sort()
            print(
                f"{name}: {args.batch} questions x {args.beam} of {len(corpus)} blocks of "
                f"{corpus.body_width} tokens, {found / args.batches / args.batch:.1f} with an answer: "
                f"median {times[len(times) // 2]:.2f} ms a question, slowest batch {times[-1]:.2f} ms"
            )


if __name__ == "__main__":
    main()
