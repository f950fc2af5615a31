"""Table I: every method in every scenario with several seeds, under one protocol.

Run       python studies/table1.py --data /data/dvm --tuned runs/tune_dvm,runs/tune_dvm_drfuse
          python studies/table1.py --table my.csv --images my_images/ --label diagnosis \\
              --group patient_id --scenarios both-50,image-50 --methods dfpl,drfuse,table_only
Makes     runs/table1/: records/, epochs/, predictions/ of methods x scenarios x seeds
Read by   python -m analysis.table1 runs/table1
Paper     the mean over its nine scenarios of DVM-CAR: DFPL 95.4, DrFuse 92.0, ShaSpec 91.1

Data, masks, encoders, optimisation and selection are the same for all. What else a method has is
as in its own paper or, with --tuned, as found by a search: python studies/tune_dvm.py --method
NAME. --method.FIELD speaks of DFPL, and of every method where FIELD is one of the encoders'.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfpl.config import RunConfig
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.data.sources import load as load_source
from dfpl.fields import ConfigError, flatten
from dfpl.method import load, names
from dfpl.study.best import best
from dfpl.study.plan import Plan, SweepOptions, table_plan
from dfpl.study.progress import console
from dfpl.study.protocol import ENCODERS, with_encoders_of
from dfpl.study.records import Record, RecordStore
from dfpl.study.run import sweep_main
from dfpl.study.settings import OF_SOURCE, OWN_TABLE, paper_plan

SAME_FOR_ALL = {*(f"method.{name}" for name in ENCODERS), "optim.epochs", "optim.batch_size"}
Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options(SweepOptions):
    methods: str = "all"
    """`all`, or a comma-separated list such as `dfpl,drfuse`."""
    scenarios: str = "all"
    """`all` nine of Table I, or a comma-separated list such as `both-50,tabular-70`."""
    tuned: str = ""
    """Folders of finished searches, comma-separated: where one has a best config of a method in a
    scenario, its hyperparameters replace the method's own."""


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


def tuned_values(folders: str, base: RunConfig) -> dict[tuple[str, str], Values]:
    """What searches found best, by method and scenario; of several the one with the best
    validation value. Raises ConfigError where it was found on other data or by another metric."""
    found: dict[tuple[str, str], tuple[float, Values]] = {}
    for folder in filter(None, map(str.strip, folders.split(","))):
        for record, values in winners(RecordStore(folder)):
            for name in ("data_hash", "metric"):
                if (other := record.config[name]) != (own := base.to_dict()[name]):
                    raise ConfigError(
                        f"--tuned {folder} searched with {name} {other}, here it is {own}: what "
                        "was best there says nothing here"
                    )
            key, value = (record.config["method"]["name"], record.scenario), record.value or 0.0
            if key not in found or value > found[key][0]:
                found[key] = value, values
    return {key: values for key, (_, values) in found.items()}


def winners(store: RecordStore) -> Iterator[tuple[Record, Values]]:
    """The best runs of a search with their hyperparameters: what it searched, and how else the
    method was set there; not what is the same for all methods."""
    if not store.root.exists("study.json"):
        raise ConfigError(f"no search in {store.root} (looked for study.json there)")
    searched = store.root.read_json("study.json").get("space", {})
    for entry in best(store):
        yield (
            entry.record,
            {
                name: value
                for name, value in flatten(entry.record.config)
                if (name.startswith("method.") or name in searched) and name not in SAME_FOR_ALL
            },
        )


def plan_of(arguments: list[str]) -> Plan:
    """The user's own table with --table, or packed as --data; else a data set of the paper, told by
    what lies there, or the look-alike of DVM-CAR."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--table")
    parser.add_argument("--data", type=Path, default=Path())
    typed = parser.parse_known_args(arguments)[0]
    data = typed.data.expanduser()
    if PackedDataset.is_packed(data):
        name = PackedDataset.load(data).schema.name
    else:
        there = [name for name in OF_SOURCE if load_source(name).looks_raw(data)]
        name = there[0] if there else "dvm"
    if typed.table or name not in OF_SOURCE:
        return table_plan("table1", OWN_TABLE)
    return paper_plan("table1", name)


if __name__ == "__main__":
    sweep_main(plan_of(sys.argv[1:]), runs, read_by="analysis.table1", options=Options())
