"""How much each searched hyperparameter of DFPL matters: varied alone around one point.

Run       python studies/sensitivity.py --data /data/dvm --scenario both-50
          python studies/sensitivity.py --data /data/dvm --from runs/tune_dvm/best.json
Makes     runs/sensitivity/: records/, epochs/, predictions/ of the point, and of up to --values
          values of each hyperparameter over its search range, x seeds
Read by   python -m analysis.sensitivity runs/sensitivity
Paper     Table III: on DVM-CAR in both-50 without PFA and CMA, K = 3, 5, 10, 15 give accuracies of
          89.25, 91.32, 90.34, 89.61

The point is the paper's, or, with --from, the best config of a search: its searched values; all
else is as given here. Give each point and scenario its own --name.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import tyro

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import Choice, ConfigError, FloatRange, IntRange, flatten
from dfpl.method import load
from dfpl.study.comparison import plan_of
from dfpl.study.plan import SweepOptions
from dfpl.study.run import sweep_main
from dfpl.study.start import read_point


@dataclass(frozen=True, kw_only=True)
class Options(SweepOptions):
    scenario: str = ""
    """Of all runs. Default: both-50, or that of --from."""
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """A best.json: its config is the point. Default: the paper's point."""
    trial: int | None = None
    """Which of several configs of a scenario in --from."""
    values: int = 5
    """Values of each hyperparameter, over its whole search range."""


def runs(base: RunConfig, options: Options) -> list[RunConfig]:
    """The point, then one change at a time. Raises ConfigError where --values is too few, or --from
    is of another method, other data or another metric."""
    if options.values < 2:
        raise ConfigError(f"--values must be at least 2, got {options.values}")
    point = point_of(base, options)
    before = dict(flatten(point.to_dict()))
    changes = [
        {name: value}
        for name, wanted in load(base.method.name).SEARCH_SPACE.items()
        for value in spread(wanted, options.values)
        if value != before[name]
    ]
    return [point, *(point.with_values(change) for change in changes)]


def point_of(base: RunConfig, options: Options) -> RunConfig:
    """The base run in its scenario, with the searched values of --from."""
    if not options.from_:
        scenario = Scenario.parse(options.scenario or "both-50")
        return base.with_values({"scenario": scenario.to_dict()})
    scenario, values = read_point(options.from_, base, options.scenario, options.trial)
    return base.with_values({"scenario": scenario.to_dict(), **values})


def spread(wanted: FloatRange | IntRange | Choice, count: int) -> Iterator[Any]:
    """Yield up to `count` values from one end of a range to the other, evenly by ratio where it is
    searched by order of size or is of whole numbers, else by difference. Raises ConfigError for
    values without order."""
    match wanted:
        case IntRange(low, high):
            yield from dict.fromkeys(np.geomspace(low, high, count).round().astype(int).tolist())
        case FloatRange(low, high, log):
            found = np.geomspace(low, high, count) if log else np.linspace(low, high, count)
            yield from (float(f"{value:.2g}") for value in found.tolist())
        case Choice():
            raise ConfigError(f"{wanted.values} have no order along which to draw a curve")


if __name__ == "__main__":
    sweep_main(plan_of("sensitivity", sys.argv[1:]), runs, "analysis.sensitivity", Options())
