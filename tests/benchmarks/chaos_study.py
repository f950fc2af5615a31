"""The study that chaos.py disturbs: like studies/tune_dvm.py, but every trained epoch is noted.

Run       chaos.py does
Makes     STORAGE/noted/<process>.txt: a line per epoch with the run and the seconds it had taken
"""

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dfpl.config import RunConfig
from dfpl.fields import Row
from dfpl.study import run, tuning
from dfpl.study.launch import Launch, execute
from dfpl.study.plan import Plan
from dfpl.study.records import Record
from dfpl.study.rounds import Ask, Describing
from dfpl.study.trial import Job
from dfpl.study.tuning import SearchSettings, tune_trial

NOTED = "noted"
SMALL: dict[str, Any] = {
    "method.image_network": "small",
    "method.width": 16,
    "method.tabular_heads": 2,
    "method.tabular_shared_depth": 1,
    "method.tabular_branch_depth": 1,
    "optim.batch_size": 16,
    "optim.learning_rate": 3e-3,
}


@dataclass(frozen=True)
class Noting:
    """Notes an epoch, then asks whether the run may go on."""

    ask: Ask
    run_id: str
    folder: str

    def __call__(self, row: Row) -> bool:
        line = f"{time.time()} {self.run_id} {int(row['epoch'])} {row['seconds']!r}\n"
        with open(f"{self.folder}/{os.getpid()}.txt", "a") as stream:
            stream.write(line)
        return self.ask(row)


def noted_trial(config: dict[str, Any], settings: SearchSettings) -> None:
    folder = Path(settings.store.root.path).parent / NOTED
    folder.mkdir(exist_ok=True)

    def execute_noting(
        wanted: RunConfig, job: Job, launch: Launch, ask: Ask, describe: Describing
    ) -> Record:
        return execute(wanted, job, launch, Noting(ask, wanted.run_id, str(folder)), describe)

    tuning.execute = execute_noting
    tune_trial(config, settings)


if __name__ == "__main__":
    run.search = partial(run.search, trial=noted_trial)
    run.main(Plan(name="chaos", source="dvm", base=SMALL))
