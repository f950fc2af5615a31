"""The best config of each scenario trained in every other: which configs belong together.

Run       python studies/transfer.py --data /data/dvm --from runs/tune_dvm/best.json
          python studies/transfer.py --data /data/dvm --from studies/best/dvm_dfpl.json \\
              --scenarios both-50,tabular-70
Makes     runs/transfer/: records/, epochs/, predictions/ of (configs of --from, and the paper's) x
          scenarios x seeds; what is the same config in the same scenario is trained once
Read by   python -m analysis.transfer runs/transfer
Paper     nothing: it has one config for all scenarios

Of a config its searched values are taken; all else is as given here. study.json notes which search
found each.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dfpl.config import RunConfig
from dfpl.data.scenario import parse_scenarios
from dfpl.fields import ConfigError
from dfpl.study.best import read_exported
from dfpl.study.comparison import plan_of
from dfpl.study.plan import SweepOptions
from dfpl.study.run import sweep_main
from dfpl.study.start import read_points


@dataclass(frozen=True, kw_only=True)
class Options(SweepOptions):
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """The best.json of a search, or a JSON file that dfpl best made of it."""
    scenarios: str = ""
    """In which all are trained: `all` nine of Table I, or a comma-separated list. Default: those of
    --from."""


def runs(base: RunConfig, options: Options) -> list[RunConfig]:
    """All points in the first scenario, then in the next."""
    points = facts(base, options)["points"]
    listed = read_exported(Path(options.from_).expanduser())["configs"]
    known = ",".join(dict.fromkeys(entry["scenario"] for entry in listed))
    found = [
        base.with_values({**values, "scenario": scenario.to_dict()})
        for scenario in parse_scenarios(options.scenarios or known)
        for values in points.values()
    ]
    return list({run.run_id: run for run in found}.values())


def facts(base: RunConfig, options: Options) -> dict[str, Any]:
    """For study.json: the searched values of each point, by where it was found. Raises ConfigError
    without --from, or where that is of another method, other data or another metric."""
    if not options.from_:
        raise ConfigError("--from is needed: the best.json of a search, from dfpl best RUN_DIR")
    return {"points": read_points(options.from_, base)}


if __name__ == "__main__":
    sweep_main(plan_of("transfer", sys.argv[1:]), runs, "analysis.transfer", Options(), facts)
