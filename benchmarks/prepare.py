"""Compare the rate of `prepare` with that of the tokenizer library's own batch encoding of the same text.

    python benchmarks/prepare.py --corpus corpus.jsonl.gz --vocabulary vocab.txt

Both use all cores. `prepare` does everything: reading, parsing, splitting, tagging, tokenising, writing,
hashing, starting its processes. The library's time is for encoding alone, texts and vocabulary loaded
before. The two take turns, so that other work on the machine hits both. Asked: a ratio of 0.5.
"""

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path

import tokenizers

from realm_jax.data.prepare import prepare
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.text.vocabulary import train_vocabulary


def read_texts(path: Path) -> list[str]:
    """Return the texts of a JSONL file."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def library(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """Return the library's tokenizer with the same rules."""
    engine = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {token: i for i, token in enumerate(tokenizer.vocabulary)}, unk_token="[UNK]"
        )
    )
    engine.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return engine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help=".jsonl or .jsonl.gz with title and text")
    parser.add_argument("--vocabulary", type=Path, help="vocab.txt; one of 30000 pieces is trained if absent")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    texts = read_texts(args.corpus)
    vocabulary = (
        Tokenizer.load(args.vocabulary)
        if args.vocabulary
        else Tokenizer(train_vocabulary(texts, vocab_size=30_000))
    )
    engine = library(vocabulary)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    ratios = []
    for turn in range(args.repeats):
        start = time.perf_counter()
        encodings = engine.encode_batch(texts, add_special_tokens=False)
        encoding_seconds = time.perf_counter() - start
        pieces = sum(len(encoding) for encoding in encodings)
        del encodings
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            report = prepare([args.corpus], Path(folder) / "corpus", tokenizer=vocabulary)
            prepare_seconds = time.perf_counter() - start
        ratios.append(encoding_seconds / prepare_seconds)
        print(
            f"turn {turn}: {len(texts)} texts, {megabytes:.1f} MB, {pieces} wordpieces, "
            f"{report.blocks} blocks; "
            f"encode_batch {encoding_seconds:.2f} s ({megabytes / encoding_seconds:.2f} MB/s), "
            f"prepare {prepare_seconds:.2f} s ({megabytes / prepare_seconds:.2f} MB/s), "
            f"ratio {ratios[-1]:.2f}"
        )
    print(f"ratio of rates: median {sorted(ratios)[len(ratios) // 2]:.2f}, lowest {min(ratios):.2f}")


if __name__ == "__main__":
    main()
