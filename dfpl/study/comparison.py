"""Several methods under one protocol: their runs, what searches found for them, and the data."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfpl.config import RunConfig
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.data.sources import load as load_source
from dfpl.fields import ConfigError, flatten
from dfpl.method import load, names
from dfpl.study.best import exported, read_exported
from dfpl.study.plan import Plan, SweepOptions, table_plan
from dfpl.study.progress import console
from dfpl.study.protocol import ENCODERS, with_encoders_of
from dfpl.study.records import RecordStore
from dfpl.study.settings import OF_SOURCE, OWN_TABLE, paper_plan
from dfpl.study.start import refuse_other

SAME_FOR_ALL = {*(f"method.{name}" for name in ENCODERS), "optim.epochs", "optim.batch_size"}
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options(SweepOptions):
    """Options of a comparison of methods."""

    methods: str = "all"
    """`all`, or a comma-separated list such as `dfpl,drfuse`."""
    scenarios: str = "all"
    """`all` nine of Table I, or a comma-separated list such as `both-50,tabular-70`."""
    tuned: str = ""
    """Folders of finished searches, or JSON files that dfpl best made of them, comma-separated:
    where one has a best config of a method in a scenario, its hyperparameters replace the method's
    own."""


def runs(base: RunConfig, options: Options) -> list[RunConfig]:
    """All methods in the first scenario, then in the next."""
    methods = parse_methods(options.methods)
    tuned = tuned_values(options.tuned, base)
    for name in methods:
        if found := [scenario for method, scenario in tuned if method == name]:
            console.print(f"tuned     {name} in {', '.join(found)}")
    return [
        run_of(base, name, scenario).with_values(tuned.get((name, str(scenario)), {}))
        for scenario in parse_scenarios(options.scenarios)
        for name in methods
    ]


def parse_methods(text: str) -> list[str]:
    if text == "all":
        return names()
    listed = [name.strip() for name in text.split(",")]
    for name in listed:
        load(name)
    if len(set(listed)) < len(listed):
        raise ConfigError(f"--methods lists a method twice: {text}")
    return listed


def run_of(base: RunConfig, name: str, scenario: Scenario) -> RunConfig:
    method = with_encoders_of(base.method, name)
    return base.with_values({"method": method.to_dict(), "scenario": scenario.to_dict()})


def tuned_values(places: str, base: RunConfig) -> dict[tuple[str, str], Values]:
    """What searches found best, by method and scenario; of several the one with the best
    validation value. Raises ConfigError where it was found on other data or by another metric."""
    found: dict[tuple[str, str], tuple[float, Values]] = {}
    for place in filter(None, map(str.strip, places.split(","))):
        content = winners(place)
        for entry in content["configs"]:
            config, value = entry["config"], entry["value"] or 0.0
            refuse_other(config, base, f"--tuned {place}", ("data_hash", "metric"))
            key = config["method"]["name"], entry["scenario"]
            if key not in found or value > found[key][0]:
                found[key] = value, hyperparameters(config, content.get("space", {}))
    return {key: values for key, (_, values) in found.items()}


def winners(place: str) -> dict[str, Any]:
    """The best configs of a search as `dfpl best` exports them, from such a file or from the folder
    of the search."""
    if place.endswith(".json"):
        content = read_exported(Path(place).expanduser())
        for entry in content["configs"]:
            RunConfig.from_dict(entry["config"])  # refuses what was edited wrongly, by name
        return content
    store = RecordStore(place)
    if not store.root.exists("study.json"):
        raise ConfigError(f"no search in {store.root} (looked for study.json there)")
    return exported(store)


def hyperparameters(config: Values, searched: Values) -> Values:
    """What a search looked for, and how else the method was set there; not what is the same for all
    methods."""
    return {
        name: value
        for name, value in flatten(config)
        if (name.startswith("method.") or name in searched) and name not in SAME_FOR_ALL
    }


def plan_of(study: str, arguments: list[str], look_alike: str = "dvm") -> Plan:
    """The user's own table with --table, or packed as --data; else a data set of the paper, told by
    what lies there, or a look-alike."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--table")
    parser.add_argument("--data", type=Path, default=Path())
    typed = parser.parse_known_args(arguments)[0]
    data = typed.data.expanduser()
    if PackedDataset.is_packed(data):
        name = PackedDataset.load(data).schema.name
    else:
        there = [name for name in OF_SOURCE if load_source(name).looks_raw(data)]
        name = there[0] if there else look_alike
    if typed.table or name not in OF_SOURCE:
        return table_plan(study, OWN_TABLE)
    return paper_plan(study, name)
