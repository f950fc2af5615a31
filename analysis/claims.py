"""The paper's claims one by one: what it says, what the runs say, and whether that is enough.

Run       python -m analysis.claims --ablations runs/ablations --table1 runs/table1 \\
              --figure3 runs/figure3
Reads     the records and predictions of studies/table2.py to table5.py (with one --name),
          table1.py or figure4.py, and figure3.py; the paper's numbers
Prints    per claim the paper's figures, ours on the test split with 95 % intervals, and a verdict

A claim is a list of comparisons, each of something that should be better with something else; the
rules of the verdict are those of `analysis.claim.verdict`. The intervals are those of other samples
and of other seeds.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import tyro

from analysis.claim import gap_of, verdict
from analysis.claimed import claims_of
from analysis.confirm import percent
from analysis.tables import RENDER, Cell, Format, Table, publish
from dfpl.config import Metric
from dfpl.fields import ConfigError
from dfpl.study.records import RecordStore

SHOWN = 4
"""Comparisons of a claim that are printed one by one; of more, the smallest difference."""


@dataclass(frozen=True, kw_only=True)
class Options:
    ablations: str = ""
    """Folder of the runs of studies/table2.py to table5.py."""
    table1: str = ""
    """Folder of runs of several methods: Table I, and Figure 4 where both-50 is among them."""
    figure3: str = ""
    """Folder of the runs of studies/figure3.py."""
    metric: Metric | None = None
    """Default: the metric by which the runs chose their best epoch."""
    format: Literal["markdown", "latex", "csv", "html"] = "markdown"
    """`csv`: one row per comparison, with all numbers as fractions."""
    out: str = ""
    """File to write instead of printing."""


def build(options: Options) -> pd.DataFrame:
    """One row per comparison, in the order of the paper; a claim without runs has one empty row."""
    folders = (options.table1, options.figure3, options.ablations)
    stores = [RecordStore(folder) if folder else None for folder in folders]
    rows: list[dict[str, Any]] = []
    for claim in claims_of(*stores, metric=options.metric):
        gaps = [gap_of(one) for one in claim.comparisons]
        facts = {"source": claim.source, "claim": claim.text, "paper": claim.paper}
        facts |= {"verdict": verdict(gaps), "n": claim.n, "study": claim.study}
        named = zip(claim.comparisons, gaps, strict=True)
        rows += [{**facts, "comparison": one.name, **gap._asdict()} for one, gap in named]
        if not gaps:
            rows.append({**facts, "comparison": "", "difference": np.nan, "seeds": 0})
    return pd.DataFrame(rows)


def table_of(frame: pd.DataFrame) -> Table:
    """One row per claim."""
    rows = []
    for _, own in frame.groupby(["source", "claim"], sort=False):
        lines: list[dict[str, Any]] = own.to_dict("records")
        first = lines[0]
        missing = f"no runs; studies/{first['study']}.py makes them"
        cells = [first[name] for name in ("source", "claim", "paper")]
        cells += [ours_of(lines) if first["comparison"] else missing, first["verdict"]]
        rows.append([Cell(text) for text in cells])
    sizes = " or ".join(map(str, sorted(set(frame["n"]) - {0}))) or "no"
    return Table(
        title="The paper's claims, against these runs",
        header=["source", "claim", "the paper, in points", "ours, in points [95 %]", "verdict"],
        rows=rows,
        notes=[
            f"Differences on the test split in percentage points, n = {sizes} samples; intervals "
            "over samples (bootstrap over groups) and seeds. Holds: every difference is above 0 at "
            "5 %. Does not hold: one is below, after Holm's correction. The paper's numbers are of "
            "its own data."
        ],
    )


def ours_of(lines: list[dict[str, Any]]) -> str:
    """The differences, or of many the smallest."""
    known = [line for line in lines if not np.isnan(line["difference"])]
    if len(known) <= SHOWN:
        return "; ".join(map(told, lines))
    smallest = min(known, key=lambda line: line["difference"])
    return f"smallest of {len(known)}: {told(smallest)}"


def told(line: dict[str, Any]) -> str:
    if line["seeds"] == 0:
        return f"{line['comparison']}: not there"
    if line["seeds"] == 1:
        return f"{line['comparison']}: {100 * line['difference']:+.1f} (one seed)"
    numbers = percent([line[name] for name in ("difference", "low", "high")], "+")
    return f"{line['comparison']}: {numbers}"


def render(frame: pd.DataFrame, form: Format | Literal["csv"]) -> str:
    if form == "csv":
        return frame.to_csv(index=False)
    return RENDER[form](table_of(frame)) + "\n"


def main() -> None:
    options = tyro.cli(Options, description=__doc__)

    def make() -> str:
        if not (options.ablations or options.table1 or options.figure3):
            raise ConfigError("no folder of runs: give --ablations, --table1 or --figure3")
        return render(build(options), options.format)

    publish(make, options.out)


if __name__ == "__main__":
    main()
