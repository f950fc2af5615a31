"""Table I: every method in every scenario, on the test split.

Run       python -m analysis.table1 runs/table1
          python -m analysis.table1 runs/table1 --format latex --out table1.tex
Reads     the records and predictions that studies/table1.py left in RUN_DIR; the paper's numbers
Prints    per scenario and method the mean over seeds with its 95 % interval (bootstrap over
          groups, for the seeds given), the paper's value where the data set is one of its; the
          same in each state; mean ranks over the scenarios
Makes     table1_ranks.svg and .png, the critical-difference diagram, in RUN_DIR or beside --out

The best of a row is bold. Marked is what is not significantly worse than it: paired bootstrap over
groups, same samples, masks and seeds, at 5 % after Holm's correction for all comparisons of the
table. As the best is chosen by the same numbers, the mark says that no difference was shown, not
that there is none.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import tyro

from analysis.comparison import AS_TRAINED, COLUMNS, rows_of_scenario
from analysis.confirm import percent
from analysis.diagram import KINDS, draw, image
from analysis.runs import Runs
from analysis.statistics import Ranks, holm, mean_ranks
from analysis.tables import MARK, RENDER, Cell, Format, Table, turned
from dfpl.config import Metric
from dfpl.data.scenario import PATTERNS, Scenario
from dfpl.fields import ConfigError
from dfpl.predictions import PredictionError
from dfpl.storage import Storage
from dfpl.study.records import Record, RecordStore

PAPER = Path(__file__).parent / "paper/table1.csv"
PAPER_METRICS = {"ACC": "accuracy", "PRAUC": "prauc"}
LABELS = {
    "tip": "TIP",
    "if_mmin": "IF-MMIN",
    "stil": "STiL",
    "im_fuse": "IM-Fuse",
    "dmrnet": "DMRNet",
    "shaspec": "ShaSpec",
    "drfuse": "DrFuse",
    "dfpl": "DFPL",
}
"""The paper's methods in its order; other methods that were run follow as references."""
LEVEL = 0.05
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Options:
    run_dir: tyro.conf.Positional[str]
    """Folder or URI of the runs of studies/table1.py."""
    format: Literal["markdown", "latex", "csv", "html"] = "markdown"
    """`csv`: one row per scenario, state and method, with all numbers as fractions."""
    metric: Metric | None = None
    """Default: the metric by which the runs chose their best epoch."""
    rows: Literal["scenarios", "methods"] = "scenarios"
    """What rows are, as in the paper; `methods` is easier to read where there are more of them."""
    out: str = ""
    """File to write instead of printing."""


def build(store: RecordStore, metric: Metric | None = None) -> pd.DataFrame:
    """One row per scenario, availability (as in training, and each state) and method; scores as
    fractions. Raises ConfigError where there is no record."""
    records = list(store.read_all())
    if not records:
        raise ConfigError(f"no records below {store.root}/records; run studies/table1.py first")
    dataset = records[0].config["dataset"]
    chosen: Metric = metric or records[0].config["metric"]
    paper = paper_values(dataset, chosen)
    methods = methods_of(records, paper)
    rows: list[dict[str, Any]] = []
    for scenario in scenarios_of(records):
        here = [record for record in records if record.scenario == scenario]
        by_method = {name: [r for r in here if method_of(r) == name] for name in methods}
        found = {name: Runs(own) for name, own in by_method.items() if own}
        rows += rows_of_scenario(store, scenario, methods, found, chosen)
    frame = pd.DataFrame(rows, columns=COLUMNS).assign(dataset=dataset, metric=chosen)
    trained = frame["available"] == AS_TRAINED
    keys = zip(frame["scenario"], frame["method"], strict=True)
    frame["paper"] = pd.Series([paper.get(key, np.nan) for key in keys]).where(trained)
    frame["p_holm"] = holm(frame["p"].where(trained).tolist())
    frame["as_good"] = frame["best"] | (frame["p_holm"] >= LEVEL)
    return frame


def method_of(record: Record) -> str:
    return record.config["method"]["name"]


def paper_values(dataset: str, metric: str) -> dict[tuple[str, str], float]:
    """What the paper reports, as fractions, by scenario and method; nothing for other data."""
    names = {label: name for name, label in LABELS.items()}
    return {
        (f"{row['missing_pattern']}-{row['missing_rate']}", names[row["method"]]): row["value"]
        / 100
        for row in pd.read_csv(PAPER).to_dict("records")
        if row["dataset"].lower() == dataset and PAPER_METRICS[row["metric"]] == metric
    }


def methods_of(records: Sequence[Record], paper: dict[tuple[str, str], float]) -> list[str]:
    """The columns: the paper's methods in its order, all of them where it has values to compare
    with, then the others that were run."""
    run = {method_of(record) for record in records}
    shown = run | {method for _, method in paper}
    return [name for name in LABELS if name in shown] + sorted(run - LABELS.keys())


def scenarios_of(records: Sequence[Record]) -> list[str]:
    """The rows in the order of the paper: by rate, then tables, images, both missing."""
    found = {record.scenario: Scenario.parse(record.scenario) for record in records}
    return sorted(found, key=lambda name: (found[name].rate, PATTERNS.index(found[name].pattern)))


def tables(frame: pd.DataFrame) -> list[Table]:
    """What is printed: Table I, the same by state, and the mean ranks."""
    rows: Rows = frame.to_dict("records")
    trained = [row for row in rows if row["available"] == AS_TRAINED]
    by_state = [row for row in rows if row["available"] != AS_TRAINED]
    metric = rows[0]["metric"].replace("_", " ")
    of = f"{rows[0]['dataset']}, {metric} on the test split in percent"
    seeds = {row["seeds"] for row in rows} - {0}
    labels = [label(name) for name in dict.fromkeys(row["method"] for row in rows)]
    return [
        Table(
            title=f"Table I: {of}",
            header=["missing", "image/table", *labels],
            rows=[
                [*map(Cell, availability(scenario)), *(cell_of(row, seeds) for row in own)]
                for scenario, own in groupby(trained, key=lambda row: row["scenario"])
            ],
            notes=notes_of(trained),
        ),
        Table(
            title=f"By what is available: {of}",
            header=["scenario", "available", *labels],
            rows=[
                [*map(Cell, names), *(cell_of(row, seeds) for row in own)]
                for names, own in groupby(by_state, lambda row: (row["scenario"], row["available"]))
            ],
        ),
        table_of_ranks(frame),
    ]


def label(method: str) -> str:
    return LABELS.get(method, method.replace("_", " "))


def availability(scenario: str) -> list[str]:
    """The rate, and the shares of samples with image and with table, in percent."""
    masks = Scenario.parse(scenario)
    image, table = {"tabular": (0, 1), "image": (1, 0), "both": (0.5, 0.5)}[masks.pattern]
    left = "/".join(f"{100 * (1 - masks.rate * share):g}" for share in (image, table))
    return [f"{100 * masks.rate:g} %", left]


def cell_of(row: dict[str, Any], seeds: set[int]) -> Cell:
    """The score with its interval, and the number of seeds where it is not the same throughout;
    what is missing; the paper's value."""
    score = ""
    if not np.isnan(row["value"]):
        numbers = percent((row["value"], row["low"], row["high"]), "")
        score = f"{numbers} (n {row['seeds']})" if len(seeds) > 1 else numbers
    elif row["seeds"]:
        score = f"{row['metric']} does not exist"
    paper = "" if np.isnan(row["paper"]) else f"paper {100 * row['paper']:.2f}"
    first, *others = [text for text in (score, row["reason"], paper) if text]
    beside = "".join(f"; {text}" for text in others)
    return Cell(first, row["best"], row["as_good"], beside)


def notes_of(rows: Rows) -> list[str]:
    sizes = " or ".join(str(size) for size in sorted({row["n"] for row in rows} - {0})) or "no"
    compared = sum(not np.isnan(row["p_holm"]) for row in rows)
    seeds = {row["seeds"] for row in rows} - {0}
    count = min(seeds, default=0)
    of_seeds = "n seeds" if len(seeds) > 1 else f"{count} seed{'s' * (count != 1)}"
    notes = [
        f"Mean over {of_seeds} [95 % interval by bootstrap over groups, for these seeds]; {sizes} "
        f"test samples. Bold: best of the scenario. {MARK}: not significantly worse (paired "
        f"bootstrap, Holm over {compared} comparisons, {100 * LEVEL:g} %)."
    ]
    if not all(np.isnan(row["paper"]) for row in rows):
        notes.append("paper: as printed there; to be compared with runs on its data alone.")
    return notes + [
        f"{label(row['method'])} in {row['scenario']}: the latest of {row['older_configs'] + 1} "
        "configs."
        for row in rows
        if row["older_configs"]
    ]


def scores_by_scenario(frame: pd.DataFrame) -> pd.DataFrame:
    """Scenarios x methods, of those that have any score."""
    scores: dict[str, dict[str, float]] = {}
    for row in frame.to_dict("records"):
        if row["available"] == AS_TRAINED and not np.isnan(row["value"]):
            scores.setdefault(label(row["method"]), {})[row["scenario"]] = row["value"]
    return pd.DataFrame(scores)


def ranks_of(frame: pd.DataFrame) -> Ranks:
    """Over the scenarios, of the methods that have a score in each of them. Raises ValueError
    where that is too little."""
    return mean_ranks(scores_by_scenario(frame).dropna(axis=1), LEVEL)


def table_of_ranks(frame: pd.DataFrame) -> Table:
    scores = scores_by_scenario(frame)
    whole = set(scores.dropna(axis=1))
    partly = [str(name) for name in scores if name not in whole]
    left_out = [f"Not ranked, as they lack a scenario: {', '.join(partly)}."] if partly else []
    several = "" if len(scores) == 1 else "s"
    title = f"Mean ranks over {len(scores)} scenario{several} (1 is best)"
    header = ["method", "mean rank"]
    try:
        ranks = ranks_of(frame)
    except ValueError as error:
        notes = [f"No ranks and no diagram: {error}.", *left_out]
        return Table(title=title, header=header, rows=[], notes=notes)
    rows = [[Cell(str(name)), Cell(f"{rank:.2f}")] for name, rank in ranks.mean.items()]
    return Table(title=title, header=header, rows=rows, notes=[told(ranks), *left_out])


def told(ranks: Ranks) -> str:
    """The tests of the ranks in words."""
    alike = ", ".join(f"({', '.join(group)})" for group in ranks.groups) or "none"
    return (
        f"Friedman's chi squared {ranks.statistic:.2f}, p = {ranks.p:.2g}. Nemenyi's critical "
        f"difference at {100 * ranks.alpha:g} %: {ranks.critical_difference:.2f}; groups that do "
        f"not differ: {alike}. Scenarios share their test samples, so this describes the table; "
        "it is no test over independent data sets."
    )


def render(
    frame: pd.DataFrame,
    form: Format | Literal["csv"],
    rows: Literal["scenarios", "methods"] = "scenarios",
) -> str:
    if form == "csv":
        return frame.to_csv(index=False)
    first, by_state, ranks = tables(frame)
    if rows == "methods":
        first, by_state = turned(first, 2), turned(by_state, 2)
    return "\n\n".join(RENDER[form](table) for table in (first, by_state, ranks)) + "\n"


def write_diagram(frame: pd.DataFrame, where: Storage) -> None:
    """The critical-difference diagram as table1_ranks.svg and .png, where there are ranks."""
    try:
        figure = draw(ranks_of(frame), "Mean ranks over the scenarios of Table I")
    except ValueError as error:
        print(f"no diagram: {error}", file=sys.stderr)
        return
    for kind in KINDS:
        where.write(f"table1_ranks.{kind}", image(figure, kind))
    print(f"wrote {where}/table1_ranks.svg and .png", file=sys.stderr)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    store = RecordStore(options.run_dir)
    try:
        frame = build(store, options.metric)
    except (ConfigError, PredictionError) as error:
        sys.exit(f"error: {error}")
    text = render(frame, options.format, options.rows)
    if not options.out:
        print(text, end="")
        write_diagram(frame, store.root)
        return
    out = Path(options.out).expanduser().absolute()
    out.write_text(text)
    write_diagram(frame, Storage(out.parent))


if __name__ == "__main__":
    main()
