"""Studies that start from what a search found best: the searched values in its export."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError, flatten
from dfpl.method import load
from dfpl.study.best import read_export, read_exported

Values = dict[str, Any]
"""Of the fields that a method's search space names, by dotted name."""
PAPER = "paper"


def read_point(
    place: str, base: RunConfig, scenario: str = "", trial: int | None = None
) -> tuple[Scenario, Values]:
    """One config of an export: where it was found best, and its searched values. Raises ConfigError
    where it is ambiguous, or says nothing about runs like `base`."""
    found, _ = read_export(Path(place).expanduser(), scenario, trial)
    return found.scenario, searched_values(found.to_dict(), base, f"--from {place}")


def read_points(place: str, base: RunConfig) -> dict[str, Values]:
    """All configs of an export by the search that found each, with the trial where it found
    several; before them, as `paper`, the point of `base`."""
    points = {PAPER: searched_values(base.to_dict(), base, "")}
    searches: dict[str, dict[int, Values]] = {}
    for entry in read_exported(Path(place).expanduser())["configs"]:
        run = RunConfig.from_dict(entry["config"])
        [search] = entry.get("objective", {entry["scenario"]: ()})
        values = searched_values(run.to_dict(), base, f"--from {place}")
        searches.setdefault(search, {})[entry.get("trial", 0)] = values
    for search, trials in searches.items():
        for trial, values in trials.items():
            points[search if len(trials) == 1 else f"{search} {trial}"] = values
    return points


def searched_values(found: Mapping[str, Any], base: RunConfig, place: str) -> Values:
    """The values of a config in its method's search space. Raises ConfigError, naming `place`,
    where it is of another method, other data or another metric than `base`."""
    refuse_other(found, base, place, ("method.name", "data_hash", "metric"))
    values = dict(flatten(found))
    return {name: values[name] for name in load(base.method.name).SEARCH_SPACE}


def refuse_other(
    found: Mapping[str, Any], base: RunConfig, place: str, names: tuple[str, ...]
) -> None:
    """Raise ConfigError where a config found best differs from `base` in one of these fields."""
    there, here = dict(flatten(found)), dict(flatten(base.to_dict()))
    for name in names:
        if there[name] != here[name]:
            raise ConfigError(
                f"{place} was found with {name} {there[name]}, here it is {here[name]}: what was "
                "best there says nothing here"
            )
