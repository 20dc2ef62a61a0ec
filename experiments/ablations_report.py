"""Print and save what the ablations came to: a row a variant, and whether the orderings hold.

Called by experiments/ablations.sh; reads runs/ablations-SEED.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console
from rich.table import Table

from realm_jax.data.questions import Questions
from realm_jax.inspect.evaluate import RetrieverName, evaluate_run, write_evaluation
from realm_jax.inspect.loaded import open_run

LABELS = {
    "closed": "closed book: the reader of REALM, the null block only",
    "none": "no REALM pre-training: ICT retriever, warmed-up encoder",
    "realm": "REALM: salient masks, fresh index, null block",
    "random_span": "random span masks",
    "uniform": "uniform masks",
    "stale": "index 30 times as stale",
    "no_null": "without the null block",
    "realm_retriever": "REALM retriever, encoder without REALM",
    "realm_encoder": "ICT retriever, REALM encoder",
}
READ = 2  # blocks read a question
BATCH = 32  # rows read at once
# With the retriever as pre-trained: its recall, and exact match of row `realm`'s reader on what it finds.
# After fine-tuning: exact match of each row's own retriever and reader.
FIGURES = RECALL, SAME_READER, MATCH = "recall@5", "same_reader", "exact_match"
# (what, better, worse): published, and to be seen here.
ORDERINGS = (
    (RECALL, "realm", "none"),
    (SAME_READER, "realm", "none"),
    (MATCH, "realm", "none"),
    (MATCH, "realm", "closed"),
    (RECALL, "realm", "stale"),
    (SAME_READER, "realm", "stale"),
    (MATCH, "realm", "stale"),
)
Figures = Mapping[str, Mapping[str, Sequence[float]]]  # figure -> row -> one value a seed


def measure(seed: int, variants: Sequence[str]) -> dict[str, dict[str, float]]:
    """Evaluate the runs of a seed on the held-out questions.

    Args:
      seed: of the runs.
      variants: names from `LABELS`, beside `closed`, `none` and `realm`.

    Returns:
      Figures by name and row: recall@5 and the same reader's exact match with the retriever as pre-trained,
      and exact match after fine-tuning.
    """
    own = Path(f"runs/ablations-{seed}")
    found: dict[str, dict[str, float]] = {name: {} for name in FIGURES}
    for row in ["none", "realm", *variants]:
        before = _evaluate(own / f"found_{row}", "model")
        found[RECALL][row], found[SAME_READER][row] = before[RECALL], before[MATCH]
        found[MATCH][row] = _evaluate(own / f"qa_{row}", "model")[MATCH]
    found[MATCH]["closed"] = _evaluate(own / "qa_realm", "null")[MATCH]
    return found


def _evaluate(folder: Path, retriever: RetrieverName) -> dict[str, float]:
    run = open_run(folder, batch_size=BATCH, fresh_index=True)
    questions = Questions.load(run.config.dev_questions)
    evaluation = evaluate_run(run, questions, retriever=retriever, ks=(1, 5, 20), candidates=READ)
    write_evaluation(evaluation, folder / f"evaluation-{retriever}")
    return {name: value["mean"] for name, value in evaluation.to_json()["metrics"].items()}


def orderings(figures: Figures) -> list[tuple[str, bool]]:
    """Say of each published ordering whether the means over the seeds have it.

    Args:
      figures: values by figure and row.

    Returns:
      What was compared, in words, and whether it holds; those without figures are left out.
    """
    said = []
    for name, better, worse in ORDERINGS:
        if better in figures[name] and worse in figures[name]:
            high, low = mean(figures[name][better]), mean(figures[name][worse])
            said.append((f"{name}: {better} {high:.3f} over {worse} {low:.3f}", high > low))
    return said


def show(figures: Figures, console: Console) -> None:
    """Print the table: means over the seeds, with standard deviations where there are several."""
    table = Table(title="Held-out facts; exact match after fine-tuning, the others before")
    table.add_column("variant")
    for name in FIGURES:
        table.add_column(name, justify="right")
    for row, label in LABELS.items():
        if row in figures[MATCH]:
            table.add_row(label, *(spread(figures[name].get(row, ())) for name in FIGURES))
    console.print(table)
    for words, holds in orderings(figures):
        console.print(f"{'holds' if holds else 'DOES NOT HOLD'}: {words}")


def spread(values: Sequence[float]) -> str:
    """Write mean and standard deviation."""
    if not values:
        return ""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    """Evaluate, print, save; exit with 1 where an ordering does not hold."""
    parser = argparse.ArgumentParser(description="Report what the ablations came to.")
    parser.add_argument("--variants", nargs="*", default=[], choices=list(LABELS)[3:], help="rows")
    parser.add_argument("--seeds", nargs="+", type=int, required=True, help="runs that are averaged")
    arguments = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # warns of what is meant so
    measured = [measure(seed, arguments.variants) for seed in arguments.seeds]
    figures = {
        name: {row: [one[name][row] for one in measured] for row in measured[0][name]} for name in FIGURES
    }
    report = Path("runs") / "ablations.json"
    report.write_text(json.dumps({"seeds": arguments.seeds, **figures}, indent=2) + "\n", encoding="utf-8")
    show(figures, Console(width=110))
    if not all(holds for _, holds in orderings(figures)):
        sys.exit(1)


if __name__ == "__main__":
    main()
