"""Per-question values to means with intervals, over all questions and by source."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ALL = "all"


@dataclass(frozen=True)
class Tally:
    """A mean as sum and count, and its 95% bootstrap interval."""

    total: float
    count: int
    low: float
    high: float

    @property
    def mean(self) -> float:
        return self.total / self.count

    def to_json(self) -> dict[str, float]:
        """Return mean, interval and count in plain JSON types."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "count": self.count}


def bootstrap_interval(values: np.ndarray, *, samples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Estimate how far a mean would scatter over other questions of the same kind.

    Args:
      values: float `[n]`, n >= 1.
      samples: times the questions are drawn again, with replacement.
      seed: of the draws; the same values give the same interval.

    Returns:
      Lower and upper end, with 95% of the resampled means between them (percentile method).
    """
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(len(values), size=len(values))].mean() for _ in range(samples)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def tally(values: np.ndarray) -> Tally | None:
    """Sum and count the values that are known.

    Args:
      values: float `[n]`; NaN where the value is not known, such as recall by gold block without one.

    Returns:
      The tally, or None if no value is known.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    return Tally(float(known.sum()), len(known), *bootstrap_interval(known))


def tally_by_source(values: Mapping[str, np.ndarray], sources: Sequence[str]) -> dict[str, dict[str, Tally]]:
    """Tally each metric over all questions, over each source, and over the sources that share a prefix.

    Args:
      values: float `[n]` a metric.
      sources: n names; questions without one are counted in `all` only. Sources `nq_train` and `nq_dev` make
        the further row `nq_*`.

    Returns:
      Row -> metric -> tally, `all` first; a metric that no question of a row knows is left out of that row.
    """
    names = np.array(sources, dtype=object)
    rows = {ALL: np.ones(len(names), bool)}
    named = _groups(names).items()
    rows |= {f"source {row}" if row == ALL else row: np.isin(names, members) for row, members in named}
    table: dict[str, dict[str, Tally]] = {}
    for row, members in rows.items():
        found = {name: tally(column[members]) for name, column in values.items()}
        table[row] = {name: value for name, value in found.items() if value is not None}
    return table


def table_json(table: Mapping[str, Mapping[str, Tally]]) -> dict[str, Any]:
    """Return a table of `tally_by_source` in plain JSON types."""
    return {row: {name: value.to_json() for name, value in cells.items()} for row, cells in table.items()}


def _groups(names: Iterable[str]) -> dict[str, list[str]]:
    """Name the rows: each source, and each prefix before `_` that several sources share."""
    sources = sorted({name for name in names if name})
    rows = {source: [source] for source in sources}
    for prefix in sorted({source.split("_")[0] for source in sources}):
        members = [source for source in sources if source.split("_")[0] == prefix]
        if len(members) > 1:
            rows[f"{prefix}_*"] = members
    # Equal rows say nothing new: one source alone is what `all` is.
    return rows if len(sources) > 1 or "" in set(names) else {}
