"""Section 5 of a search: which hyperparameters matter, what was tried, where runs were stopped.

All numbers here are of validation. A chart that would need more than can be drawn has a part of the
trials, and says how many.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis import importance, search
from analysis.report.blocks import Block, chart, percents, plain, section, several, text
from analysis.report.study import Study
from analysis.table1 import scenarios_of
from dfpl.fields import Choice, ConfigError, FloatRange, SearchSpace
from dfpl.study.objective import Objective

MOST_POINTS, MOST_CURVES, MOST_CONFIGS = 1500, 60, 160
"""Runs in slices, curves, and configs from which importances are told, over all scenarios."""
BEST_KEPT = 20
"""Of each scenario these stay in the slices, whatever is left out."""
Frame = Any  # a pd.DataFrame, of whose columns pyright knows little


def build(study: Study) -> Block:
    how = (
        f"All scores are {study.metric_words} on validation in percent; a point or a curve is one "
        "run, and runs that were stopped reached less than they might have."
    )
    name, title = "hyperparameters", "Hyperparameters"
    try:
        frame: Frame = search.trials(study.store)
    except ConfigError as error:
        return section(name, title, how, [text(f"{error}.")])
    _, space = importance.searched(study.store)
    known = scenarios_of(study.records)
    scenarios = [scenario for scenario in known if (frame["scenario"] == scenario).any()]
    thinned = pd.concat([_thinned(frame, own, len(scenarios)) for own in scenarios])
    parts = [
        _or_reason(lambda: _importances(study, scenarios)),
        _points(study, frame, thinned, space),
        _curves(study, frame, scenarios),
        _front(study, frame),
    ]
    return section(name, title, how, [block for part in parts for block in part])


def _or_reason(made: Callable[[], list[Block]]) -> list[Block]:
    """What was made, or why it cannot be."""
    try:
        return made()
    except ConfigError as error:
        return [text(f"{error}.")]


def _importances(study: Study, scenarios: list[str]) -> list[Block]:
    groups = len(scenarios) + (len(scenarios) > 1)
    most = MOST_CONFIGS // groups
    frame: Frame = importance.build(study.store, most=most)
    rows = [row for row in frame.to_dict("records") if not pd.isna(row["ped_anova"])]
    views = [
        {"name": "all scenarios" if name == importance.ALL else name, "n": own[0]["n"], "rows": own}
        for name in dict.fromkeys(row["scenario"] for row in rows)
        if (own := [_share(row) for row in rows if row["scenario"] == name])
    ]
    if not views:
        return [text("All configs reached the same: no hyperparameter decides anything.")]
    drawing = chart("importances", "What decides the score, by hyperparameter", views=views)
    return [
        drawing,
        text(
            "fANOVA: share of the variance over the whole space that a hyperparameter explains "
            "alone. PED-ANOVA: its share in what tells the best tenth of the trials from the rest, "
            "with a 95 % interval (bootstrap over configs). From configs of full length; at most "
            f"{most} of a scenario are drawn here, python -m analysis.importance takes all."
        ),
    ]


def _share(row: dict[str, Any]) -> Block:
    return {
        "name": row["hyperparameter"],
        "n": row["n"],
        "fanova": percents(row["fanova"]),
        "ped_anova": percents([row["ped_anova"], row["low"], row["high"]]),
    }


def _thinned(frame: Frame, scenario: str, scenarios: int) -> Frame:
    """The runs of a scenario that are drawn: the best ones, the paper's point, and every so many
    of the others."""
    own: Frame = frame[frame["scenario"] == scenario]
    most = MOST_POINTS // scenarios
    if len(own) <= most:
        return own
    kept = set(own[own["complete"]].nlargest(BEST_KEPT, "value").index)
    kept |= set(own[own["trial"] == 0].index)
    kept |= set(own.index[np.linspace(0, len(own) - 1, most - len(kept)).astype(int)])
    return own.loc[sorted(kept)]


def _points(study: Study, frame: Frame, thinned: Frame, space: SearchSpace) -> Iterator[Block]:
    """Slices, and lines through all hyperparameters at once."""
    shown = thinned[thinned["value"].notna()]
    axes = [
        {
            "name": name,
            "log": isinstance(wanted, FloatRange) and wanted.log,
            "choices": [str(v) for v in wanted.values] if isinstance(wanted, Choice) else None,
            "range": None if isinstance(wanted, Choice) else [wanted.low, wanted.high],
        }
        for name, wanted in space.items()
    ]
    data = {
        "axes": axes,
        "y": f"validation {study.metric_words} (%)",
        "scenarios": list(dict.fromkeys(shown["scenario"])),
        "columns": {
            "scenario": shown["scenario"].tolist(),
            "trial": shown["trial"].tolist(),
            "state": shown["state"].tolist(),
            "score": percents(shown[["value", "low", "high"]].to_numpy()),
            **{name: _values(shown[name], wanted) for name, wanted in space.items()},
        },
    }
    yield chart("slices", "Score over each hyperparameter", **data)
    yield chart("parallel", "All hyperparameters at once, runs of full length")
    if len(thinned) < len(frame):
        yield text(
            f"{len(thinned):,} of {several(len(frame), 'run')} are drawn: of each scenario the "
            f"best {BEST_KEPT}, the paper's point and evenly many of the others."
        )


def _values(column: Any, wanted: Any) -> list[Any]:
    if isinstance(wanted, Choice):
        return [str(value) for value in column]
    return [plain(value) for value in column]


def _curves(study: Study, frame: Frame, scenarios: list[str]) -> Iterator[Block]:
    """Of each scenario the best run, the paper's point, and an even choice of the others."""
    each = max(2, MOST_CURVES // len(scenarios))
    chosen: list[str] = []
    for scenario in scenarios:
        own = frame[frame["scenario"] == scenario]
        first = [*own[own["complete"]].nlargest(1, "value").index, *own[own["trial"] == 0].index]
        even = np.linspace(0, len(own) - 1, min(each, len(own))).astype(int)
        places = list(dict.fromkeys([*first, *own.index[even]]))[:each]
        chosen += own.loc[places, "run_id"].tolist()
    found: Frame = search.learning_curves(study.store, chosen)
    if found.empty:
        yield text("No learning curves are stored.")
        return
    best = set(frame[frame["complete"]].groupby("scenario")["value"].idxmax())
    best_ids = set(frame.loc[list(best), "run_id"])
    runs = [_curve(run_id, own, best_ids) for run_id, own in found.groupby("run_id", sort=False)]
    y = f"validation {study.metric_words} (%)"
    yield chart("learning", "Learning curves, and where runs were stopped", y=y, runs=runs)
    if len(chosen) < len(frame):
        shown, all_runs = f"{len(runs):,}", several(len(frame), "run")
        yield text(f"{shown} of {all_runs} have a curve here: the best, the paper's, and others.")


def _curve(run_id: str, own: Frame, best: set[str]) -> Block:
    row = own.iloc[0]
    return {
        "scenario": row["scenario"],
        "trial": int(row["trial"]),
        "state": row["state"],
        "best": run_id in best,
        "stopped": None if pd.isna(row["stopped_at"]) else int(row["stopped_at"]),
        "epochs": own["epoch"].tolist(),
        "values": percents(own["value"]),
    }


def _front(study: Study, frame: Frame) -> list[Block]:
    """Where configs met several scenarios; searches of one scenario each have no front."""
    if Objective.of(study.facts).kind == "each":
        return []
    try:
        found: Frame = search.front(frame, study.store)
    except ConfigError as error:
        return [text(f"{error}.")]
    points = [
        {
            "trial": int(row["trial"]),
            "search": row["search"],
            "on_front": bool(row["on_front"]),
            "worst_scenario": row["worst_scenario"],
            "first": percents([row["first"], row["first_low"], row["first_high"]]),
            "worst": percents([row["worst"], row["worst_low"], row["worst_high"]]),
        }
        for row in found.to_dict("records")
    ]
    axis = found.iloc[0]["axis"]
    return [
        chart("front", f"Pareto front: {axis} against the worst scenario", x=axis, points=points)
    ]
