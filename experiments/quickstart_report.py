"""Print and save what a quickstart run reached: its table, and three questions with their evidence.

Called by experiments/quickstart.sh; reads a run's folders and writes report.json beside them.
"""

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import Questions
from realm_jax.heap import keep_freed_memory
from realm_jax.inspect.answer import Answer, answer_questions
from realm_jax.inspect.evaluate import evaluate_run, write_evaluation
from realm_jax.inspect.loaded import LoadedRun, open_run
from realm_jax.progress import format_seconds

RETRIEVERS = {"untrained": "untrained", "ict": "after ICT", "realm": "after REALM", "qa": "after fine-tuning"}
READERS = {"model": "REALM", "null": "the null block only", "bm25": "the same reader on BM25"}
READ = 2  # blocks read a question
SHOWN = 3  # questions printed with their evidence
BATCH = 32  # rows read at once
UTILITY_BATCHES = 20


def measure(folder: Path) -> tuple[dict[str, Any], LoadedRun, Questions]:
    """Evaluate every phase of a run on the held-out questions.

    Args:
      folder: of the run; holds `untrained`, `ict`, `realm` and `qa`.

    Returns:
      The figures in JSON types, the fine-tuned run, and the questions.
    """
    figures: dict[str, Any] = {"recall@5": {}, "gold_recall@5": {}, "exact_match": {}, "fill": {}}
    questions = Questions.load(open_run(folder / "qa").config.dev_questions)
    for phase in RETRIEVERS:
        run = open_run(folder / phase, batch_size=BATCH, fresh_index=True)
        evaluation = evaluate_run(run, questions, ks=(1, 5, 20), read=phase == "qa", candidates=READ)
        write_evaluation(evaluation, folder / phase / "evaluation-model")
        metrics = evaluation.to_json()["metrics"]
        figures["recall@5"][phase] = metrics["recall@5"]["mean"]
        figures["gold_recall@5"][phase] = metrics["gold_recall@5"]["mean"]
        if phase == "realm":
            figures["fill"] = held_out_fill(run)
        if phase == "qa":
            figures["exact_match"]["model"] = metrics["exact_match"]["mean"]
    for retriever in ("null", "bm25"):
        evaluation = evaluate_run(
            run, questions, retriever=retriever, ks=(1, 5, 20), read=True, candidates=READ
        )
        write_evaluation(evaluation, folder / "qa" / f"evaluation-{retriever}")
        figures["exact_match"][retriever] = evaluation.to_json()["metrics"]["exact_match"]["mean"]
    figures["index"] = index_figures(folder / "realm" / "metrics.jsonl")
    return figures, run, questions


def held_out_fill(run: LoadedRun) -> dict[str, float]:
    """Fill in masked sentences about held-out facts, with retrieved blocks and with the null block only."""
    text = Corpus.open(Path(run.config.text).parent / "heldout_sentences")
    evaluation = evaluate_run(run, None, utility_batches=UTILITY_BATCHES, masked_text=text)
    utility = evaluation.to_json()["utility"]
    names = ("fill_accuracy", "null_fill_accuracy", "retrieval_utility")
    return {name: utility[name]["mean"] for name in names}


def index_figures(metrics: Path) -> dict[str, float]:
    """Read how many index versions were adopted and how old they were, on average over the log lines."""
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    overlaps = [line["probe_overlap"] for line in lines if "probe_overlap" in line]
    return {
        "adopted": lines[-1]["index_adopted"],
        "mean_staleness_steps": sum(line["staleness_steps"] for line in lines) / len(lines),
        "mean_staleness_seconds": sum(line["staleness_seconds"] for line in lines) / len(lines),
        "mean_probe_overlap": sum(overlaps) / max(len(overlaps), 1),
    }


def show(figures: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(title="Held-out facts: in the encyclopaedia, in no training text and no training question")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, label in READERS.items():
        table.add_row(f"exact match, {label}", f"{figures['exact_match'][name]:.3f}")
    for phase, label in RETRIEVERS.items():
        table.add_row(f"recall@5, {label}", f"{figures['recall@5'][phase]:.3f}")
    fill = figures["fill"]
    table.add_row("masked facts filled in, retrieved blocks", f"{fill['fill_accuracy']:.3f}")
    table.add_row("masked facts filled in, the null block only", f"{fill['null_fill_accuracy']:.3f}")
    table.add_row("retrieval utility, nats a masked token", f"{fill['retrieval_utility']:.2f}")
    index = figures["index"]
    table.add_row("index versions adopted", f"{index['adopted']:.0f}")
    table.add_row("mean staleness, steps", f"{index['mean_staleness_steps']:.1f}")
    table.add_row("mean staleness, seconds", f"{index['mean_staleness_seconds']:.1f}")
    table.add_row("overlap of stale with fresh top-k", f"{index['mean_probe_overlap']:.2f}")
    table.add_row("training time since this start", format_seconds(figures["seconds"]))
    console.print(table)


def show_answer(answer: Answer, console: Console) -> None:
    """Print an answer and the blocks it was looked for in."""
    console.print(f"\n[bold]{answer.question}[/bold]  ->  {answer.text}  (p = {answer.probability:.2f})")
    for evidence in answer.evidence[:SHOWN]:
        mark = "*" if evidence.block_id == answer.block_id else " "
        console.print(
            f" {mark} p(z|x) = {evidence.retrieval_probability:.2f}  {evidence.title}: {evidence.text}"
        )


def main() -> None:
    """Evaluate, print, save."""
    parser = argparse.ArgumentParser(description="Report what a quickstart run reached.")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument(
        "--seconds", type=float, required=True, help="how long training took, since this start"
    )
    arguments = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # warns of what is meant so
    keep_freed_memory(os.environ)
    figures, run, questions = measure(arguments.run)
    figures["seconds"] = arguments.seconds
    (arguments.run / "report.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console = Console(width=110)
    show(figures, console)
    for answer in answer_questions(run, [q.question for q in questions[:SHOWN]], candidates=READ):
        show_answer(answer, console)
    console.print(f'\nAsk more: realm_jax ask {arguments.run / "qa"} "{questions[SHOWN].question}"')


if __name__ == "__main__":
    main()
