"""Section 5 of a list of runs: each config against the best one of its scenario."""

from collections.abc import Sequence
from itertools import groupby

from analysis.comparison import compared_with_best
from analysis.report.blocks import NOTHING, Block, chart, percents, score, section, table, text
from analysis.report.scores import Scored
from analysis.report.study import Study
from analysis.statistics import holm


def build(study: Study, scored: Sequence[Scored]) -> Block:
    how = (
        "How much less than the best of its scenario a config reaches on test, on the same "
        "samples, masks and seeds; an interval that reaches 0 says that no difference was shown. "
        "As the best is chosen by the same numbers, differences lean towards being too large."
    )
    title = "Comparison"
    shown = [own for own in scored if own.drawn]
    rows = [
        row for _, own in groupby(shown, lambda one: one.line.scenario) for row in _rows([*own])
    ]
    if all(row["best"] for row in rows):
        return section("comparison", title, how, [text("There are no two configs to compare.")])
    corrected = holm([row["p"] for row in rows])
    cells = [
        [row["scenario"], row["method"], *_numbers(row, p), str(row["common"])]
        for row, p in zip(rows, corrected, strict=True)
    ]
    columns = ["scenario", "config", "test", "minus the best", "p", "p, Holm", "common seeds"]
    note = (
        f"{study.metric_words} in percent [95 %]. p: paired bootstrap over groups; Holm corrects "
        "for all comparisons of the table."
    )
    points = [
        {
            "group": row["scenario"],
            "label": row["method"],
            "look": row["look"],
            "n": row["n"],
            "score": percents(_gap(row)),
        }
        for row in rows
        if not row["best"]
    ]
    views = [{"name": "minus the best", "rows": points}]
    drawing = chart(
        "dots", "Difference to the best of the scenario", x="difference (points)", views=views
    )
    return section(
        "comparison", title, how, [drawing, table(columns, cells, names=2, notes=[note])]
    )


def _rows(here: list[Scored]) -> list[Block]:
    """Of one scenario."""
    names = [str(place) for place in range(len(here))]
    place = here[0].line.scenario
    scores = {
        name: {seed: drawn[own.places[place]] for seed, drawn in own.drawn.items()}
        for name, own in zip(names, here, strict=True)
    }
    found = list(compared_with_best(names, scores))
    winner = next(here[int(row["method"])] for row in found if row["best"])
    return [
        {
            **row,
            "scenario": place,
            "method": own.line.label,
            "look": own.line.look,
            "n": own.n,
            "common": len(own.drawn.keys() & winner.drawn.keys()),
        }
        for row, own in zip(found, here, strict=True)
    ]


def _gap(row: Block) -> tuple[float, float, float]:
    names = ("difference", "difference_low", "difference_high")
    low = float("nan")
    return row.get(names[0], low), row.get(names[1], low), row.get(names[2], low)


def _numbers(row: Block, corrected: float) -> list[str]:
    value = score((row["value"], row["low"], row["high"]))
    if row["best"]:
        return [value, "best", NOTHING, NOTHING]
    return [value, score(_gap(row), "+"), _p(row["p"]), _p(corrected)]


def _p(value: float) -> str:
    return NOTHING if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"
