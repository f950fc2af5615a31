"""Confirm a search: its best configs against the paper's, over several seeds, on the test split.

Run       python studies/confirm.py runs/tune_table --seeds 3
Makes     records of the study in RUN_DIR, search "confirm": 2 configs x seeds per scenario
Read by   python -m analysis.confirm RUN_DIR
Paper     nothing: it reports one run per config
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.fields import ConfigError
from dfpl.study.best import best
from dfpl.study.launch import Launch
from dfpl.study.records import RecordStore
from dfpl.study.resources import fit_to_cluster
from dfpl.study.run import complaints_end_with_2, connect, sweep


@dataclass(frozen=True)
class Options:
    run_dir: tyro.conf.Positional[str]
    """Folder or URI of a finished search."""
    seeds: int = 3
    """Seeds of each config: initial weights, order of samples, augmentation; the same masks."""
    workers: int = 1
    """Data-parallel workers per run."""
    gpus_per_worker: float | None = None
    """GPUs per worker. Default: 1 where there are GPUs."""
    concurrent: int | None = None
    """Runs at once. Default: as many as fit."""


def runs(store: RecordStore, seeds: int) -> list[RunConfig]:
    """The best and the paper's config of each scenario, with each seed."""
    found: dict[str, RunConfig] = {}
    for entry in best(store):
        if entry.paper is None:
            raise ConfigError(f"the paper's config has no complete run in {entry.scenario}")
        for record in (entry.record, entry.paper):
            for seed in range(seeds):
                run = RunConfig.from_dict(record.config).with_values({"seed": seed})
                found[run.run_id] = run
    return list(found.values())


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    store = RecordStore(options.run_dir)
    with complaints_end_with_2():
        wanted = runs(store, options.seeds)
        connect()
        resources = fit_to_cluster(options.workers, options.gpus_per_worker, options.concurrent)
        searched = best(store)[0].record
        launch = Launch(
            store=store,
            data=Path(searched.data),
            resources=resources,
            compute=Compute(**searched.compute),
            checkpoint_every_s=30.0,
        )
        sweep("confirm", wanted, launch)
    print(f"now: python -m analysis.confirm {options.run_dir}")


if __name__ == "__main__":
    main()
