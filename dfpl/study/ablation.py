"""The runs of an ablation table, made of the base run."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from dfpl.ablation import FULL, Ablation
from dfpl.config import RunConfig
from dfpl.data.scenario import parse_scenarios
from dfpl.fields import ConfigError, flatten
from dfpl.study.comparison import plan_of
from dfpl.study.plan import SweepOptions
from dfpl.study.run import sweep_main
from dfpl.study.start import read_point


@dataclass(frozen=True, kw_only=True)
class Options(SweepOptions):
    """Options of an ablation."""

    scenarios: str = "both-50"
    """`all` nine of Table I, or a comma-separated list such as `both-50,tabular-70`; the paper has
    both-50 alone."""
    from_: Annotated[str, tyro.conf.arg(name="from")] = ""
    """A best.json: the rows change its config. Default: the paper's."""
    scenario: str = ""
    """Which of several in --from. Default: that of --scenarios, where it names one."""
    trial: int | None = None
    """Which of several configs of a scenario in --from."""


def runs(table: Ablation, base: RunConfig, options: Options) -> list[RunConfig]:
    """Each config of the table once, though it may stand in several rows, in each scenario.

    Raises ConfigError where the base run lacks a part of DFPL: the rows say which parts are there.
    """
    base = start_of(base, options)
    given = dict(flatten(base.to_dict()))
    wrong = [f"{name} is {given[name]}" for name, value in FULL.items() if given[name] != value]
    if wrong:
        raise ConfigError(
            f"{table.name} starts from the whole DFPL, here {', '.join(wrong)}: leave that out, "
            "the rows of the table set it"
        )
    found = [
        base.with_values({**row.values, "scenario": scenario.to_dict()})
        for scenario in parse_scenarios(options.scenarios)
        for row in table.rows
    ]
    return list({run.run_id: run for run in found}.values())


def start_of(base: RunConfig, options: Options) -> RunConfig:
    """The run that the rows change: the base run, with the searched values of --from."""
    if not options.from_:
        return base
    asked = parse_scenarios(options.scenarios)
    scenario = options.scenario or (str(asked[0]) if len(asked) == 1 else "")
    _, values = read_point(options.from_, base, scenario, options.trial)
    return base.with_values(values)


def facts(base: RunConfig, options: Options) -> dict[str, Any]:
    """For study.json: the tables know their rows by the run that these change."""
    return {"base": start_of(base, options).to_dict()}


def main(table: Ablation) -> None:
    """Train the rows of a table, from the command line."""
    plan = plan_of(table.name, sys.argv[1:])
    sweep_main(
        plan,
        lambda base, options: runs(table, base, options),
        read_by=f"analysis.{table.name}",
        options=Options(),
        facts=facts,
    )
