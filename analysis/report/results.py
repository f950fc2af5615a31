"""Section 2: how good the lines are, on validation and on test, in each state."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import shorten

from analysis.report.blocks import NOTHING, Block, chart, percents, score, section, table, text
from analysis.report.scores import STATES, Scored
from analysis.report.study import Study
from analysis.runs import LONGEST
from dfpl.intervals import difference

AS_TRAINED = "as trained"


def build(study: Study, scored: Sequence[Scored]) -> Block:
    chosen = "Chosen by validation alone; the scores" if study.is_search else "Scores"
    how = (
        f"{chosen} are {study.metric_words} in percent, on test expected over who is incomplete, "
        "with 95 % intervals in brackets (masks and bootstrap over groups, for the seeds given)."
    )
    if not scored:
        return section("results", "Results", how, [text("No trial is complete.")])
    columns = ["scenario", "config", "validation", f"test, {AS_TRAINED}"]
    columns += [f"test, {state}" for state in STATES]
    beside = any(own.line.paper for own in scored)
    columns += ["best − paper's, test"] if beside else []
    columns += ["seeds", "n"]
    rows = [row for own in _by_scenario(scored) for row in _rows(own, beside)]
    return section("results", "Results", how, [*_chart(study, scored), _table(columns, rows)])


def _table(columns: list[str], rows: list[list[str]]) -> Block:
    notes = [
        "as trained: the scenario's own pattern and rate. both: nothing is hidden; image only and "
        "table only: the other modality of every complete sample is hidden. Samples that lack one "
        "by nature stay as they are. n: test samples."
    ]
    return table(columns, rows, "Scores in percent [95 %]", names=2, notes=notes)


def _by_scenario(scored: Sequence[Scored]) -> Iterator[list[Scored]]:
    for _, own in groupby(scored, key=lambda one: one.line.scenario):
        yield list(own)


def _rows(here: list[Scored], beside: bool) -> Iterator[list[str]]:
    """The lines of one scenario."""
    paper = next((own for own in here if own.line.paper and own.drawn), None)
    for own in here:
        line = own.line
        wanted = [line.scenario, *STATES.values()]
        numbers = [score(own.at(name)) for name in wanted] if own.drawn else [NOTHING] * 4
        gap = [_gap(own, paper)] if beside else []
        yield [
            line.scenario,
            f"{line.label}{_missing(own)}",
            score(own.val),
            *numbers,
            *gap,
            str(len(line.records)),
            f"{own.n:,}" if own.n else NOTHING,
        ]


def _gap(own: Scored, paper: Scored | None) -> str:
    """How much better it is than the paper's point on the same resamples and masks."""
    if own.line.paper or paper is None or not own.drawn:
        return NOTHING
    place = own.line.scenario
    sides = [one.mean[one.places[place]] for one in (own, paper)]
    return score(difference(*sides), "+")


def _missing(own: Scored) -> str:
    """Why there are no numbers, or not of all seeds."""
    said = [f"{r.state}: {shorten(r.reason, LONGEST)}" for r in own.line.others]
    reasons = [own.reason, *dict.fromkeys(said)]
    shown = "; ".join(reason for reason in reasons if reason)
    return f" ({shown})" if shown else ""


def _chart(study: Study, scored: Sequence[Scored]) -> Iterator[Block]:
    shown = [own for own in scored if own.drawn]
    if not shown:
        return
    views = [{"name": f"test, {AS_TRAINED}", "rows": [_point(own, "") for own in shown]}]
    views += [
        {"name": f"test, {state}", "rows": [_point(own, name) for own in shown]}
        for state, name in STATES.items()
    ]
    views.append({"name": "validation", "rows": [_point(own, "val") for own in shown]})
    title = "Scores of the configs with 95 % intervals"
    yield chart("dots", title, x=f"{study.metric_words} (%)", views=views)


def _point(own: Scored, where: str) -> Block:
    found = own.val if where == "val" else own.at(where or own.line.scenario)
    return {
        "group": own.line.scenario,
        "label": own.line.label,
        "look": own.line.look,
        "score": percents(found),
        "n": own.n,
    }
