"""Learning curves of many configs in the nine scenarios, trained once for `replay.py`.

Run       python tests/benchmarks/curves.py --configs 192
Makes     runs/curves/parts/*.parquet, one per config, and of all of them --out
Data      a look-alike of DVM-CAR (8 models; 636 adverts to train on, 967 to validate on), 16x16
          pixels, the small encoder: nine epochs of DFPL, validation accuracy after each

The configs are the paper's point and then a Sobol sequence over DFPL's search space. The same
command again goes on where it ended; more configs are added to those there are.
"""

from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import tyro

from dfpl.config import RunConfig
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.data.sources import dvm
from dfpl.data.twins import dvm as twin
from dfpl.fields import Row
from dfpl.model import SEARCH_SPACE, Config
from dfpl.study.space import distributions, point_of
from dfpl.train import NonFiniteError, NotConvergedError, Runtime, fit

SMALL = {
    "method.width": 32,
    "method.image_network": "small",
    "method.tabular_heads": 4,
    "method.tabular_shared_depth": 1,
    "method.tabular_branch_depth": 1,
    "method.encode_missing": "skip",
    "optim.batch_size": 64,
    "optim.learning_rate": 0.01,
    "optim.epochs": 9,
}


@dataclass(frozen=True)
class Settings:
    configs: int = 192
    """How many configs there are to be, with those that are there."""
    processes: int = 2
    """Configs trained at once, each on one thread."""
    folder: Path = Path("runs/curves")
    """Where the data and the parts lie."""
    out: Path = Path("tests/benchmarks/curves.parquet")


def base_run(packed: PackedDataset) -> RunConfig:
    run = RunConfig.from_dict(
        {
            "dataset": packed.schema.name,
            "data_hash": packed.schema.content_hash,
            "method": Config().to_dict(),
            "scenario": Scenario(pattern="both", rate=0.5).to_dict(),
        }
    )
    return run.with_values(SMALL)


def points(base: RunConfig, count: int) -> list[dict[str, Any]]:
    """The paper's point, then a scrambled Sobol sequence; the first ones do not depend on count."""
    space = distributions(SEARCH_SPACE)
    sampler = optuna.samplers.QMCSampler(scramble=True, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.ask(space)  # the first point of a study is its sampler's start, not of the sequence
    return [point_of(base, SEARCH_SPACE), *(study.ask(space).params for _ in range(count - 1))]


def make_data(folder: Path) -> Path:
    raw, packed = folder / "raw", folder / "packed"
    if not PackedDataset.is_packed(packed):
        twin.write(raw, twin.Options(adverts=360, pixels=24))
        dvm.pack(raw, packed, dvm.Options(image_size=16, val=0.38, test=0.37))
    return packed


def train(task: tuple[int, dict[str, Any], Path]) -> None:
    """Train one config in all scenarios and write its part."""
    number, point, folder = task
    packed = PackedDataset.load(folder / "packed")
    rows: list[Row] = []
    for scenario in parse_scenarios("all"):
        run = base_run(packed).with_values({**point, "scenario": scenario.to_dict()})
        try:
            epochs = fit(run, packed, Runtime()).rows
        except (NonFiniteError, NotConvergedError):
            epochs = []  # a failed trial of the replay
        rows += [
            {
                **point,
                "config": number,
                "scenario": str(scenario),
                "epoch": row["epoch"],
                "accuracy": row["val/accuracy"],
            }
            for row in epochs
        ]
    part = folder / f"parts/{number:04d}.parquet"
    pd.DataFrame(rows).to_parquet(part.with_suffix(".new"), index=False)
    part.with_suffix(".new").replace(part)


def main(settings: Settings) -> None:
    folder = settings.folder
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    base = base_run(PackedDataset.load(make_data(folder)))
    tasks = [
        (number, point, folder)
        for number, point in enumerate(points(base, settings.configs))
        if not (folder / f"parts/{number:04d}.parquet").exists()
    ]
    with get_context("spawn").Pool(settings.processes) as pool:
        for done, _ in enumerate(pool.imap_unordered(train, tasks), start=1):
            print(f"{done} of {len(tasks)} configs", flush=True)
    parts = [pd.read_parquet(part) for part in sorted((folder / "parts").glob("*.parquet"))]
    pd.concat(parts, ignore_index=True).astype({"accuracy": "float32"}).to_parquet(
        settings.out, index=False, compression="zstd"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
