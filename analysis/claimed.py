"""The claims that the paper makes, with what runs have to say to each."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis import ablation
from analysis.claim import Claim, Comparison
from analysis.comparison import Scores
from analysis.curves import by_method, read
from analysis.figure4 import TRAINED
from analysis.runs import score_runs
from analysis.table1 import LABELS, PAPER, label, scenarios_of
from dfpl.ablation import TABLE2, TABLE3, TABLE4, TABLE5, Ablation
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.study.records import Record, RecordStore

OWN = "dfpl"
NO_NUMBERS = "a figure without numbers"


def claims_of(
    table1: RecordStore | None,
    figure3: RecordStore | None,
    ablations: RecordStore | None,
    metric: Metric | None = None,
) -> Iterator[Claim]:
    """All of them in the paper's order; those without a store have no comparisons. Raises
    ConfigError where a store holds no study."""
    yield from claims_of_table1(table1, metric)
    yield from claims_of_figure3(figure3, metric)
    yield from claims_of_figure4(table1, metric)
    yield from claims_of_ablations(ablations, metric)


# Tables II to V

ABLATIONS: list[tuple[str, str, Ablation, str, int]] = [
    ("Table II", "Each component adds to those before it", TABLE2, "components", 1),
    ("Table III", "The diversity loss helps", TABLE3, "diversity", -1),
    ("Table III", "Five prototypes are better than 3, 10 or 15", TABLE3, "prototypes", -1),
    ("Table IV", "Both alignment losses are better than either", TABLE4, "losses", -1),
    (
        "Table IV",
        "Gated class prototypes are better than one level",
        TABLE4,
        "class prototypes",
        -1,
    ),
    ("Table V", "CMA is better than plain fusion", TABLE5, "fusion", -1),
    ("Table V", "Both scales are better than one", TABLE5, "scale", -1),
]
"""Source, claim, table and its group; 1 where a row should beat what it stands against, else -1."""


def claims_of_ablations(store: RecordStore | None, metric: Metric | None) -> Iterator[Claim]:
    scores: dict[str, tuple[dict[str, Scores], int]] = {}
    for source, text, table, group, sign in ABLATIONS:
        if store and table.name not in scores:
            scores[table.name] = scores_of_table(store, table, metric)
        found, n = scores.get(table.name, ({}, 0))
        rows = [row for row in table.rows if row.group == group]
        sides = [
            (row.name, row.against) if sign > 0 else (row.against, row.name)
            for row in rows
            if row.against
        ]
        if sign > 0:  # what all of them add, too
            sides.append((rows[-1].name, rows[0].name))
        compared = [
            Comparison(
                f"{better} over {worse}",
                *(found.get(ablation.key_of(group, name), {}) for name in (better, worse)),
            )
            for better, worse in sides
            if found
        ]
        yield Claim(source, text, paper_gaps(table, group, sides), compared, table.name, n)


def scores_of_table(
    store: RecordStore, table: Ablation, metric: Metric | None
) -> tuple[dict[str, Scores], int]:
    """Of the rows of a table in the first of its scenarios, which is the paper's where it is
    there; and the number of test samples. Nothing where the table was not run."""
    base = ablation.base_of(store, table)
    try:
        found = ablation.runs_by_scenario(store, table, base)
    except ConfigError:
        return {}, 0
    scenario = "both-50" if "both-50" in found else next(iter(found))
    masks = Scenario.parse(scenario)
    return ablation.scores_of_rows(store, found[scenario], masks, metric or base["metric"])


def paper_gaps(table: Ablation, group: str, sides: list[tuple[str, str]]) -> str:
    """The paper's differences, on each data set that it has them for."""
    lines = pd.read_csv(ablation.PAPER / f"{table.name}.csv")
    told = []
    for better, worse in sides:
        gaps = []
        for dataset, own in lines[lines["group"] == group].groupby("dataset", sort=False):
            value = own.set_index("row")["value"]
            gaps.append(f"{dataset} {value[better] - value[worse]:+.2f}")
        told.append(f"{better} over {worse}: {', '.join(gaps)}")
    return "; ".join(told)


# Table I and Figures 3 and 4

Tested = dict[str, dict[int, Float[np.ndarray, "S R"]]]
"""By method and seed: the scores under each of S scenarios, then those of the resamples."""


def scores_of_methods(
    store: RecordStore, records: Sequence[Record], tested: list[Scenario], metric: Metric
) -> tuple[Tested, int]:
    """Test scores of the paper's methods that have whole runs among `records`, and the number of
    test samples."""
    runs = {k: own for k, own in by_method(records).items() if k in LABELS and own.of_seed}
    scored = score_runs(store, runs, tested, metric)
    return scored.scores, scored.n


def against_others(found: Tested, place: int, where: str) -> Iterator[Comparison]:
    """DFPL with each other method under one of the scenarios."""
    for name in others(found):
        sides = [under(found, one, place) for one in (OWN, name)]
        yield Comparison(f"DFPL over {label(name)}, {where}", *sides)


def others(found: Tested) -> list[str]:
    """The methods that DFPL is compared with, in the paper's order."""
    return [name for name in LABELS if name in found and name != OWN and OWN in found]


def under(found: Tested, method: str, place: int) -> Scores:
    return {seed: scores[place] for seed, scores in found[method].items()}


def slower_fall(found: Tested, ends: tuple[int, int], where: str) -> Iterator[Comparison]:
    """What each other method loses from one scenario to another, with what DFPL loses."""
    falls = {
        name: {seed: s[ends[0]] - s[ends[1]] for seed, s in own.items()}
        for name, own in found.items()
    }
    for name in others(found):
        yield Comparison(
            f"loss of {label(name)} over that of DFPL, {where}", falls[name], falls[OWN]
        )


def claims_of_table1(store: RecordStore | None, metric: Metric | None) -> Iterator[Claim]:
    best: list[Comparison] = []
    halves: list[Comparison] = []
    n = 0
    if store:
        records, chosen = read(store, metric)
        for name in scenarios_of(records):
            here = [record for record in records if record.scenario == name]
            tested = [Scenario.parse(text) for text in (name, "image-50", "tabular-50")]
            found, n = scores_of_methods(store, here, tested, chosen)
            best += against_others(found, 0, name)
            if name == TRAINED and OWN in found:
                sides = [under(found, OWN, place) for place in (1, 2)]
                halves = [Comparison("DFPL of both-50: image-50 over tabular-50", *sides)]
    leads, falls = paper_of_table1()
    text = "DFPL is better than every published method in every scenario"
    yield Claim("Table I", text, leads, best, "table1", n)
    text = "Missing tables cost more than missing images"
    yield Claim("Table I", text, falls, halves, "table1", n)


def paper_of_table1() -> tuple[str, str]:
    """By data set: DFPL's lead over the best other, from its smallest to its largest; how much more
    it has where images are missing than where tables are, on average over the rates."""
    leads, falls = [], []
    for dataset, own in pd.read_csv(PAPER).groupby("dataset", sort=False):
        values = own.pivot_table("value", ["missing_pattern", "missing_rate"], "method")
        lead = values[LABELS[OWN]] - values.drop(columns=LABELS[OWN]).max(axis=1)
        leads.append(f"{dataset} {lead.min():+.2f} to {lead.max():+.2f}")
        mean: Any = own[own["method"] == LABELS[OWN]].groupby("missing_pattern")["value"].mean()
        falls.append(f"{dataset} {mean.at['image'] - mean.at['tabular']:+.2f}")
    return f"lead over the best other: {', '.join(leads)}", f"mean: {', '.join(falls)}"


def claims_of_figure3(store: RecordStore | None, metric: Metric | None) -> Iterator[Claim]:
    best: list[Comparison] = []
    slower: list[Comparison] = []
    n = 0
    if store:
        records, chosen = read(store, metric)
        for pattern in ("both", "tabular"):
            tested = [Scenario(pattern=pattern, rate=0.9)]
            trained: dict[float, Tested] = {}
            for name in scenarios_of(records):
                masks = Scenario.parse(name)
                if masks.pattern == pattern:
                    here = [record for record in records if record.scenario == name]
                    found, n = scores_of_methods(store, here, tested, chosen)
                    best += against_others(found, 0, f"trained in {name}")
                    trained[masks.rate] = found
            if {0.2, 0.6} <= trained.keys():
                slower += slower_fall(joined(trained[0.2], trained[0.6]), (0, 1), f"{pattern}")
    text = "DFPL is the best at 90 % in the test, whatever the rate in training"
    yield Claim("Figure 3", text, NO_NUMBERS, best, "figure3", n)
    text = "From 20 to 60 % in training DFPL loses less than the others"
    yield Claim("Figure 3", text, NO_NUMBERS, slower, "figure3", n)


def joined(first: Tested, second: Tested) -> Tested:
    """The scenarios of both, for the seeds that both have."""
    return {
        name: {
            seed: np.concatenate([first[name][seed], second[name][seed]])
            for seed in first[name].keys() & second[name].keys()
        }
        for name in first.keys() & second.keys()
    }


def claims_of_figure4(store: RecordStore | None, metric: Metric | None) -> Iterator[Claim]:
    best: list[Comparison] = []
    slower: list[Comparison] = []
    n = 0
    if store:
        records, chosen = read(store, metric)
        here = [record for record in records if record.scenario == TRAINED]
        tested = [Scenario(pattern="both", rate=rate / 100) for rate in range(10, 100, 10)]
        found, n = scores_of_methods(store, here, tested, chosen)
        for place, masks in enumerate(tested):
            best += against_others(found, place, f"tested in {masks}")
        slower = list(slower_fall(found, (0, len(tested) - 1), "10 to 90 % in the test"))
    yield Claim(
        "Figure 4", "DFPL is the best at every rate in the test", NO_NUMBERS, best, "figure4", n
    )
    text = "From 10 to 90 % in the test DFPL loses less than the others"
    yield Claim("Figure 4", text, NO_NUMBERS, slower, "figure4", n)
