"""What a search looks for: a best config per scenario, one for all of them, or a Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, Literal, NamedTuple

from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.study.records import Record, State

Kind = Literal["each", "mean", "worst", "cvar", "pareto"]
COMPLETE_DATA = Scenario(pattern="both", rate=0.0)


class Block(NamedTuple):
    """One run of a trial: its point is trained in this scenario with this seed."""

    scenario: Scenario
    seed: int

    @property
    def name(self) -> str:
        return f"{self.scenario}/{self.seed}"


class Met(NamedTuple):
    """What a trial reached in one of its blocks: the validation metric of its best epoch."""

    block: str
    """Name of the block."""
    value: float

    @classmethod
    def of(cls, record: Record) -> "Met":
        """What a run reached, which has a value unless it failed."""
        return cls(f"{record.scenario}/{record.config['seed']}", record.value or 0.0)

    @property
    def scenario(self) -> str:
        return self.block.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How the blocks that a trial meets make its value; all are maximised.

    With v_s the mean over the seeds in scenario s, of S scenarios:

        each, mean   mean_s v_s   (under `each` a trial meets one scenario)
        worst        min_s v_s
        cvar         mean of the lowest q S of the v_s, a fraction of the last one where q S is
                     no whole number (conditional value at risk at level q)
        pareto       two values: v on complete data, and min_s v_s over the others
    """

    kind: Kind = "each"
    share: float = 1 / 3
    """q of `cvar`: the share of the scenarios that counts, the worst ones."""
    seeds: int = 1
    """Seeds with which every config is trained in every scenario."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"--worst-share must be above 0 and at most 1, got {self.share}")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Objective":
        """As a study notes it in study.json."""
        return cls(**facts["objective"])

    @property
    def several(self) -> bool:
        """Whether trials have two values rather than one."""
        return self.kind == "pareto"

    def searches(self, scenarios: Sequence[Scenario], seed: int) -> dict[str, list[Block]]:
        """The searches of a study by name, and the blocks that each of their trials meets: all
        scenarios with the first seed, then with the next. `seed` is that of the base run."""
        groups: dict[str, list[Scenario]] = {self.kind: list(scenarios)}
        if self.kind == "each":
            groups = {str(scenario): [scenario] for scenario in scenarios}
        if self.kind == "pareto":
            others = [scenario for scenario in scenarios if scenario.rate > 0]
            if not others:
                raise ConfigError(
                    "--objective pareto sets complete data against the worst of the --scenarios, "
                    "and none of them has missing data; name one, such as both-50"
                )
            groups = {self.kind: [COMPLETE_DATA, *others]}
        return {
            name: [Block(scenario, seed + k) for k in range(self.seeds) for scenario in group]
            for name, group in groups.items()
        }

    def values(self, met: Sequence[Met]) -> tuple[float, ...]:
        """The value of a trial, or its two values, from the blocks that it met (at least one)."""
        found: dict[str, list[float]] = {}
        for block in met:
            found.setdefault(block.scenario, []).append(block.value)
        means = {name: sum(values) / len(values) for name, values in found.items()}
        if self.kind == "pareto":
            complete = means.pop(str(COMPLETE_DATA))
            return complete, min(means.values(), default=complete)
        ordered = sorted(means.values())
        share = {"worst": 0.0, "cvar": self.share}.get(self.kind, 1.0)
        return (lower_mean(ordered, share),)


def lower_mean(ordered: Sequence[float], share: float) -> float:
    """The mean of the lowest `share` of ascending values, of the lowest one at least."""
    count = max(1.0, share * len(ordered))
    whole = floor(count)
    total = sum(ordered[:whole])
    if whole < len(ordered):
        total += (count - whole) * ordered[whole]
    return total / count


class Outcome(NamedTuple):
    """How a trial ended, in Optuna's terms."""

    state: State
    values: tuple[float, ...]
    """Of a complete trial its value or values; of a pruned one what it had reached; else none."""
    step: int
    """Epochs trained, over all its runs."""
    reason: str = ""


def outcome(
    objective: Objective, records: Sequence[Record], count: int, dropped: str = ""
) -> Outcome | None:
    """How a trial of `count` runs ended, from the records that there are, in the order of its
    runs; None while it has not.

    The first run that failed or was pruned ends the trial, and decides; so does the race, whose
    reason is `dropped`, after the last run that has a record.
    """
    step = sum(record.epochs for record in records)
    last = records[-1] if records else None
    if last is None:
        return None
    if last.state == "failed":
        return Outcome("failed", (), step, last.reason)
    values = objective.values([Met.of(record) for record in records])
    if last.state == "pruned":
        return Outcome("pruned", values, step, last.reason)
    if len(records) == count:
        return Outcome("complete", values, step)
    return Outcome("pruned", values, step, dropped) if dropped else None
