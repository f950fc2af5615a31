"""Which configs belong together: each tuned in one scenario, trained and scored in every other.

Run       python -m analysis.transfer runs/transfer
          python -m analysis.transfer runs/transfer --format latex --out transfer.tex
Reads     the records and predictions that studies/transfer.py left in RUN_DIR
Prints    tuned in x scored in: the validation value, beside it the test score with its 95 %
          interval (bootstrap over groups, for the seeds given); what each costs (regret) against
          the best of a scenario on validation, and against the config tuned there on the test
          split, paired; the one config that is best for all by the mean, the worst and the worst
          third of the scenarios on validation, and what it costs
Paper     nothing: it has one config for all scenarios

Validation chooses, the test split only scores what was chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import tyro

from analysis.confirm import percent
from analysis.tables import RENDER, Cell, Format, Table, publish
from analysis.transfer_matrix import ALL, SHARE, Row, best_for_all, build
from dfpl.study.records import RecordStore
from dfpl.study.regret import OneForAll

RULES = {"mean": "mean", "worst": "worst", "cvar": f"CVaR (worst {100 * SHARE:.0f} %)"}

LUCK = [
    "What was tuned in the scenario of a column was chosen there, by runs that may be among these: "
    "on validation it has that luck on its side, on the test split it has not."
]
ON_COSTS = [
    "On validation against the best of the column; test: against the config tuned there (where "
    "there is none, the best on validation), on the same samples, masks and seeds [paired "
    "bootstrap over groups, 95 %]; below 0 it was the better one."
]


@dataclass(frozen=True)
class Options:
    run_dir: tyro.conf.Positional[str]
    """Folder or URI of the runs of studies/transfer.py."""
    format: Literal["markdown", "latex", "csv", "html"] = "markdown"
    """`csv`: one row per config and scenario, with all numbers as fractions."""
    out: str = ""
    """File to write instead of printing."""


def tables(frame: pd.DataFrame) -> list[Table]:
    """What is printed: the scores, the costs, and one config for all."""
    rows: list[Row] = frame.to_dict("records")
    of = f"{rows[0]['dataset']}, {rows[0]['metric'].replace('_', ' ')} in percent"
    n, seeds = (
        " or ".join(map(str, sorted({row[name] for row in rows} - {0}))) or "no"
        for name in ("n", "seeds")
    )
    on_scores = [
        "On validation; test: with its 95 % interval (bootstrap over groups, for these seeds), "
        f"n = {n} test samples. Mean over {seeds} seed(s). Bold: best of its column on validation, "
        "by which configs are chosen.",
        *LUCK,
    ]
    return [
        grid(rows, f"Tuned in (rows), trained and scored in (columns): {of}", score, on_scores),
        grid(rows, f"Regret, what a config costs where it was not tuned: {of}", cost, ON_COSTS),
        table_for_all(rows, best_for_all(frame), of),
    ]


def grid(rows: list[Row], title: str, cell_of: Callable[[Row], Cell], notes: list[str]) -> Table:
    """Configs x scenarios, and over all of these."""
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    lines: dict[str, list[Cell]] = {}
    for row in rows:  # all of one scenario, then of the next
        lines.setdefault(row["tuned"], [Cell(row["tuned"])]).append(cell_of(row))
    header = ["tuned in", *("mean of all" if name == ALL else name for name in scenarios)]
    return Table(title=title, header=header, rows=list(lines.values()), notes=notes)


def score(row: Row) -> Cell:
    """The validation value, and beside it the test score, or why there is none."""
    if np.isnan(row["validation"]):
        return Cell(row["reason"])
    test = ""
    if not np.isnan(row["value"]):
        test = f"; test {percent((row['value'], row['low'], row['high']), '')}"
    reason = f"; {row['reason']}" if row["reason"] else ""
    best = row["validation_regret"] == 0 and row["scenario"] != ALL
    return Cell(f"{100 * row['validation']:.1f}", best, beside=test + reason)


def cost(row: Row) -> Cell:
    if np.isnan(row["validation"]):
        return Cell(row["reason"])
    test = "" if np.isnan(row["regret"]) else f"; test {regret(row)}"
    if row["tuned"] == row["reference"]:
        test = "; compared with"
    return Cell(f"{100 * row['validation_regret']:.1f}", beside=test)


def regret(row: Row) -> str:
    return percent((row["regret"], row["regret_low"], row["regret_high"]), "+")


def table_for_all(rows: list[Row], found: list[OneForAll], of: str) -> Table:
    """The config that is best over all scenarios by each rule, and its regret."""
    num_scenarios = len({row["scenario"] for row in rows} - {ALL})
    lines = []
    for own in found:
        here = [row for row in rows if row["tuned"] == own.config]
        [over_all] = [row for row in here if row["scenario"] == ALL]
        most = max(
            (row for row in here if row["scenario"] != ALL),
            key=lambda row: np.nan_to_num(row["regret"], nan=-np.inf),
        )
        known = not np.isnan(over_all["regret"])
        lines.append(
            [
                Cell(RULES[own.rule]),
                Cell(own.config),
                Cell(f"{100 * own.value:.1f}"),
                Cell(f"{100 * own.mean_regret:.1f}"),
                Cell(f"{100 * own.regret[own.worst]:.1f} in {own.worst}"),
                Cell(regret(over_all) if known else "-"),
                Cell(f"{regret(most)} in {most['scenario']}" if known else "-"),
            ]
        )
    names = ["best by", "tuned in", "validation", "mean cost", "largest cost"]
    notes = [
        "Chosen on validation alone, of the configs with a value in every scenario. Test: against "
        "the configs tuned in each [paired bootstrap over groups, 95 %]; the largest of "
        f"{num_scenarios} is picked by the numbers that it shows."
    ]
    if not found:
        notes = ["No config has a value in every scenario."]
    return Table(
        title=f"One config for all {num_scenarios} scenarios, and what it costs against one for "
        f"each: {of}",
        header=[*names, "mean cost, test", "largest cost, test"],
        rows=lines,
        notes=notes,
    )


def render(frame: pd.DataFrame, form: Format | Literal["csv"]) -> str:
    if form == "csv":
        return frame.to_csv(index=False)
    return "\n\n".join(RENDER[form](table) for table in tables(frame)) + "\n"


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    publish(lambda: render(build(RecordStore(options.run_dir)), options.format), options.out)


if __name__ == "__main__":
    main()
