"""What a search looks for: a best config per scenario, or one config for all of them."""

from typing import Literal, NamedTuple

from dfpl.data.scenario import Scenario
from dfpl.study.records import Record, State

Objective = Literal["each", "mean", "worst"]


def groups(objective: Objective, scenarios: list[Scenario]) -> dict[str, list[Scenario]]:
    """The searches of a study by name, and the scenarios that each of their trials meets."""
    if objective == "each":
        return {str(scenario): [scenario] for scenario in scenarios}
    return {objective: scenarios}


class Outcome(NamedTuple):
    """How a trial ended, in Optuna's terms."""

    state: State
    value: float | None
    step: int
    """Epochs trained, over all its runs."""
    reason: str = ""


def outcome(objective: Objective, records: list[Record | None]) -> Outcome | None:
    """How a trial ended, from the records of its runs; None while one is missing.

    The first run that failed or was pruned ends the trial, and decides.
    """
    done: list[Record] = []
    for record in records:
        if record is None:
            return None
        done.append(record)
        if record.state != "complete":
            break
    step, last = sum(record.epochs for record in done), done[-1]
    if last.state != "complete":
        return Outcome(last.state, last.value, step, last.reason)
    return Outcome("complete", combine(objective, [record.value or 0.0 for record in done]), step)


def combine(objective: Objective, values: list[float]) -> float:
    """The value of a trial from those of its scenarios."""
    return min(values) if objective == "worst" else sum(values) / len(values)
