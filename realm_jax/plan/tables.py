"""The plan as people read it."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from realm_jax.chips import GIB
from realm_jax.plan.estimate import Estimate
from realm_jax.plan.remedies import Attempt, remedy

# What the parts of `ChipMemory` hold, in words.
HELD = {
    "parameters": "parameters, float32",
    "optimizer": "optimiser",
    "gradients": "gradients",
    "weights": "weights as computed with",
    "snapshot": "refresher's copy",
    "inputs": "inputs of a step",
    "index": "index",
    "tokens": "tokens of all blocks",
    "activations": "kept for the backward pass",
    "recomputed": "the layer computed again",
}


def estimate_view(plan: Estimate) -> RenderableType:
    """Show an analytic plan."""
    job, topology = plan.job, plan.job.topology
    config, assumed = job.config, plan.assumptions
    mesh = " x ".join(f"{axis} {size}" for axis, size in job.axis_sizes.items())
    source = (
        "of the prepared corpus" if job.corpus.known else "assumed: Wikipedia, rows as wide as the shapes"
    )
    head = Text(f"{config.name}, phase {job.phase}, on {topology}\n", style="bold")
    head.append(
        f"mesh {mesh}; {job.settings.batch_size} rows a step in {job.settings.microbatches} microbatch(es), "
        f"rematerialisation {job.settings.rematerialisation}; index {config.index.engine} "
        f"({config.index.storage})\n"
        f"{job.corpus.blocks:,} blocks ({source})",
        style="not bold",
    )
    return Group(
        head, _memory_table(plan), _alternatives_table(plan), _time_table(plan, assumed.refresh_steps)
    )


def _memory_table(plan: Estimate) -> Table:
    chip = plan.job.topology.chip
    table = Table(title="memory of a chip, counted (--compile asks the compiler)", title_justify="left")
    table.add_column("")
    table.add_column("GiB", justify="right")
    for name, size in asdict(plan.memory).items():
        if size:
            table.add_row(HELD[name], gib(size))
    verdict = "fits" if plan.fits else "does not fit, as counted"
    table.add_row(f"together, of {chip.memory / GIB:g}", f"{gib(plan.memory.total)}", style="bold")
    table.add_row("", Text(verdict, style="green" if plan.fits else "red"))
    table.add_row("a host: embeddings in use", gib(plan.host_embeddings), style="dim")
    table.add_row("a host: tokens, memory-mapped", gib(plan.host_tokens), style="dim")
    return table


def _alternatives_table(plan: Estimate) -> Table:
    counts = sorted({one.microbatches for one in plan.alternatives})
    table = Table(title="GiB a chip by policy and microbatches (green: fits)", title_justify="left")
    table.add_column("rematerialisation")
    for count in counts:
        table.add_column(str(count), justify="right")
    for policy in dict.fromkeys(one.rematerialisation for one in plan.alternatives):
        row = [one for one in plan.alternatives if one.rematerialisation == policy]
        cells = (Text(gib(one.chip_bytes), style="green" if one.fits else "red") for one in row)
        table.add_row(policy, *cells)
    return table


def _time_table(plan: Estimate, refresh_steps: int) -> Table:
    job, topology, assumed = plan.job, plan.job.topology, plan.assumptions
    table = Table(
        title=f"work and time, at {assumed.step_share:.0%} of the peak in training and "
        f"{assumed.embedding_share:.0%} in embedding",
        title_justify="left",
    )
    table.add_column("")
    table.add_column("", justify="right")
    rows = [
        ("parameters", f"{sum(plan.parameters.values()) / 1e6:,.1f} M"),
        *((f"  {name}", f"{count / 1e6:,.1f} M") for name, count in plan.parameters.items()),
        ("of which this phase trains", f"{plan.trained / 1e6:,.1f} M"),
        ("model FLOPs of a step", f"{plan.step_flops:.3g}"),
    ]
    if plan.search_flops:
        rows.append(("FLOPs of searching on the chips, a step", f"{plan.search_flops:.3g}"))
    rows += [
        ("a step", duration(plan.step_seconds)),
        ("exchange of gradients, part of it", duration(plan.exchange_seconds)),
        (f"the run, {job.settings.steps:,} steps", duration(plan.run_seconds)),
        ("chip-hours", f"{topology.chips * plan.run_seconds / 3600:,.0f}"),
    ]
    if (fresh := plan.refreshing) is not None:
        first, mean, last = fresh.staleness
        rows += [
            ("FLOPs of embedding all blocks", f"{fresh.flops:.3g}"),
            (f"a refresh, worker {job.config.refresh.worker}", duration(fresh.seconds)),
            ("  in steps", f"{fresh.steps:,.0f}"),
            ("steps between refreshes", f"{fresh.period:,.0f}"),
            ("staleness in steps: at adoption, mean, last", f"{first:,.0f}, {mean:,.0f}, {last:,.0f}"),
            (f"refresh in about {refresh_steps} steps: chips of these that only embed", f"{fresh.chips}"),
            ("  or chips beside these", f"{fresh.further_chips}"),
        ]
    for row in rows:
        table.add_row(*row)
    return table


def attempt_view(first: Attempt, attempt: Attempt) -> RenderableType:
    """Show what the compiler said of one attempt; `first` is the job as it was asked for."""
    changed = remedy(first.job, attempt.job)
    what = f"with {changed}" if changed else "as asked for"
    compiled = attempt.compiled
    if compiled is None:
        return Text(f"{what}: not tried, {gib(attempt.counted)} GiB as counted", style="dim")
    if not compiled.fits:
        return Text(
            f"{what}: does not fit, {gib(compiled.needed)} of {gib(compiled.available)} GiB", style="red"
        )
    said = Text(f"{what}: fits, {gib(compiled.needed)} GiB a chip", style="bold green")
    said.append(
        f" (arguments {gib(compiled.arguments)}, temporaries {gib(compiled.temporaries)}, "
        f"program {gib(compiled.code)}; counted {gib(attempt.counted)})",
        style="not bold default",
    )
    table = Table(title="collectives of a step, one in a loop counted once", title_justify="left")
    for name in ("", "number", "MiB a chip"):
        table.add_column(name, justify="right" if name else "left")
    for one in compiled.collectives:
        table.add_row(one.name, str(one.operations), f"{one.bytes / (1 << 20):,.1f}")
    return Group(said, table)


def verdict_view(tried: Sequence[Attempt]) -> Text:
    """Say whether the step fits, and what made it."""
    last = tried[-1]
    if not last.fits:
        return Text("does not fit this slice: take a larger one, or a smaller batch", style="bold red")
    changed = remedy(tried[0].job, last.job)
    return Text(f"fits with {changed}" if changed else "fits as it is", style="bold green")


def gib(size: int) -> str:
    """Write bytes as GiB."""
    return f"{size / GIB:,.2f}"


def duration(seconds: float) -> str:
    """Write a duration in the unit that suits it."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * length or (unit == "s" and seconds >= 1):
            return f"{seconds / length:,.1f} {unit}"
    return f"{1000 * seconds:,.1f} ms"
