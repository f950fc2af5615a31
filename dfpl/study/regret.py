"""One config for all scenarios, and what it costs against the best one of each."""

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

from dfpl.study.objective import Kind, Met, Objective

RULES: tuple[Kind, ...] = ("mean", "worst", "cvar")


class OneForAll(NamedTuple):
    """The config that is best over all scenarios by one rule."""

    rule: Kind
    config: str
    value: float
    """What the rule makes of its values."""
    regret: dict[str, float]
    """By scenario: how much more the best config there reached."""

    @property
    def mean_regret(self) -> float:
        return fmean(self.regret.values())

    @property
    def worst(self) -> str:
        """The scenario in which it costs most."""
        return max(self.regret, key=lambda scenario: self.regret[scenario])


def one_for_all(reached: Mapping[str, Mapping[str, float]], share: float) -> list[OneForAll]:
    """By each rule the best of the configs that met all scenarios, of equals the first; nothing
    where none did.

    With v_ij what config i reached in scenario j, and rules as in `Objective`, `share` that of
    `cvar`:

        regret_ij = max_k v_kj - v_ij,  over all configs k that met scenario j
    """
    best: dict[str, float] = {}
    for values in reached.values():
        for scenario, value in values.items():
            best[scenario] = max(value, best.get(scenario, value))
    whole = {config: values for config, values in reached.items() if len(values) == len(best)}
    found = []
    for rule in RULES if whole else ():
        objective = Objective(kind=rule, share=share)
        by_rule = {config: robust_value(values, objective) for config, values in whole.items()}
        config = max(by_rule, key=lambda config: by_rule[config])
        regret = {scenario: best[scenario] - own for scenario, own in whole[config].items()}
        found.append(OneForAll(rule, config, by_rule[config], regret))
    return found


def robust_value(values: Mapping[str, float], objective: Objective) -> float:
    """One value from those of the scenarios."""
    return objective.values([Met(scenario, value) for scenario, value in values.items()])[0]
