"""Tables for people: evaluations, answers, fillings, search results."""

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from realm_jax.data.corpus import BlockText
from realm_jax.evaluate.tally import Tally
from realm_jax.inspect.answer import Answer
from realm_jax.inspect.evaluate import Evaluation
from realm_jax.inspect.fill import Filled, Guess
from realm_jax.types import NO_BLOCK

NATS = ("retrieval_utility", "best_block_utility", "log_likelihood", "null_log_likelihood")
SHOWN_CHARACTERS = 300  # of a block
SOURCES_ABREAST = 5  # columns of means with intervals that a terminal has room for
METRICS_ABREAST = 8  # columns of means


def evaluation_table(evaluation: Evaluation) -> RenderableType:
    """Show metrics in rows, means with their 95% intervals, and sources in columns.

    More sources than fit side by side get a table of their own, a row a source, with the means alone.
    """
    facts = evaluation.facts
    parts: list[RenderableType] = []
    title = f"{facts['run']} ({facts['phase']}, step {facts['step']})"
    if facts.get("index_staleness_steps"):
        title += f", index {facts['index_staleness_steps']} steps old"
    if evaluation.table:
        left_out = sum(facts.get("questions_left_out", {}).values())
        asked = f"{facts['questions']} questions" + (f" ({left_out} left out)" if left_out else "")
        table = Table(title=Text(f"{title}, retriever {facts['retriever']}, {asked}"), title_justify="left")
        table.add_column("", min_width=max(map(len, evaluation.table["all"])))  # recall@1 and @100 end alike
        many = len(evaluation.table) > SOURCES_ABREAST
        shown = {"all": evaluation.table["all"]} if many else evaluation.table
        for row in shown:
            table.add_column(Text(row), justify="right")
        for name in evaluation.table["all"]:
            table.add_row(name, *(_cell(name, row.get(name)) for row in shown.values()))
        table.add_row("questions", *(str(_questions(row)) for row in shown.values()), style="dim")
        parts.append(table)
        if many:
            parts += _source_tables(evaluation.table)
    if evaluation.utility:
        parts.append(_utility_table(evaluation.utility, title=f"{title}, masked sentences, retriever model"))
    return Group(*parts)


def _source_tables(rows: Mapping[str, Mapping[str, Tally]]) -> list[RenderableType]:
    """Show a row a source, means in per cent; the metrics in as many tables as they need."""
    names = list(rows["all"])
    parts: list[RenderableType] = []
    for first in range(0, len(names), METRICS_ABREAST):
        table = Table(title="by source, means", title_justify="left")
        table.add_column("")
        table.add_column("questions", justify="right", style="dim")
        chosen = names[first : first + METRICS_ABREAST]
        for name in chosen:
            table.add_column(name.replace("_", "\n").replace("@", "\n@"), justify="right")
        for source, row in rows.items():
            means = (f"{100 * row[name].mean:.1f}" if name in row else "" for name in chosen)
            table.add_row(Text(source), str(_questions(row)), *means)
        parts.append(table)
    return parts


def _questions(row: Mapping[str, Tally]) -> int:
    return max((tally.count for tally in row.values()), default=0)


def answer_view(answer: Answer) -> RenderableType:
    """Show an answer and the blocks it was looked for in, with p(z|x)."""
    head = Text(answer.question, style="bold")
    if answer.text:
        head.append(f"\n{answer.text}", style="bold green")
        head.append(f"  (p = {answer.probability:.3f}, block {answer.block_id})", style="dim")
    else:
        head.append("\nno answer: no block to read it from", style="red")
    table = Table(show_lines=True)
    for name in ("block", "p(z|x)", "score", "best answer in it", "p"):
        table.add_column(name, justify="right" if name in ("p(z|x)", "score", "p") else "left")
    table.add_column("text", ratio=1)
    for one in answer.evidence:
        table.add_row(
            Text(f"{one.block_id}\n{one.title}"),
            f"{one.retrieval_probability:.3f}",
            f"{one.score:.2f}",
            Text(one.answer),
            f"{one.answer_probability:.3f}",
            _around(one.text, one.answer),
        )
    return Group(head, table) if answer.evidence else head


def filled_view(filled: Filled) -> RenderableType:
    """Show what each candidate, and all together, make of the masks."""
    table = Table(title=Text(filled.sentence), title_justify="left", show_lines=True)
    table.add_column("block")
    table.add_column("p(z|x)", justify="right")
    if filled.target is not None:
        table.add_column(Text(f"p({filled.target})"), justify="right")
    table.add_column("fills in")
    table.add_column("text", ratio=1)
    for one in filled.fillings:
        name = "null block" if one.block_id == NO_BLOCK else f"{one.block_id}\n{one.title}"
        row: list[RenderableType] = [Text(name), f"{one.retrieval_probability:.3f}"]
        row += [_probability(one.target_probability)] if filled.target is not None else []
        table.add_row(*row, _guesses(one.guesses), _around(one.text, filled.target or ""))
    row = ["marginalised", "1"]
    row += [_probability(filled.sequence_marginal)] if filled.target is not None else []
    table.add_row(*row, _guesses(filled.guesses), "", style="bold")
    return table


def search_view(found: Sequence[tuple[float, int, BlockText]]) -> RenderableType:
    """Show search results."""
    table = Table(show_lines=True)
    table.add_column("score", justify="right")
    table.add_column("block")
    table.add_column("text", ratio=1)
    for score, block_id, text in found:
        table.add_row(f"{score:.2f}", Text(f"{block_id}\n{text.title}"), Text(text.body))
    return table


def show(view: RenderableType) -> None:
    """Print a view to standard output; without colours and in full width where that is no terminal."""
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(view)


def _utility_table(utility: Mapping[str, Tally], *, title: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("")
    table.add_column("by sentence", justify="right")
    table.add_column("unit")
    for name, value in utility.items():
        unit = "nats per masked token" if name in NATS else "% of spans"
        table.add_row(name, _cell(name, value), unit)
    return table


def _cell(name: str, value: Tally | None) -> str:
    if value is None:
        return ""
    if name in NATS:
        return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
    return f"{100 * value.mean:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _probability(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _guesses(guesses: tuple[tuple[Guess, ...], ...]) -> Text:
    return Text("\n".join(" ".join(f"{word} {_probability(p)}" for word, p in mask) for mask in guesses))


def _around(text: str, wanted: str) -> Text:
    """Show the stretch of a text round a string, the string in bold."""
    at = text.lower().find(wanted.lower()) if wanted else -1
    start = max(0, at - SHOWN_CHARACTERS // 2) if at >= 0 else 0
    stop = start + SHOWN_CHARACTERS
    shown = Text(f"{'... ' if start else ''}{text[start:stop]}{' ...' if stop < len(text) else ''}")
    if at >= 0:
        first = at - start + (4 if start else 0)
        shown.stylize("bold green", first, first + len(wanted))
    return shown
