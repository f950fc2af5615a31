"""The report of a large search: seconds, and size of the page.

Run       python tests/benchmarks/report.py
Makes     runs/benchmarks/report.json, .md: per number of trials the seconds that the report takes
          after its imports, those of this process's CPU, and the size of the page in MB
Data      made-up records; of each scenario the best 40 trials have predictions and epochs
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from bench import Row, publish

sys.path.insert(0, str(Path(__file__).parents[1]))
from made_up_search import made_up_search

from analysis.report import write
from dfpl.study.records import RecordStore

SCENARIOS = ["both-50", "image-50", "tabular-50"]


@dataclass(frozen=True)
class Settings:
    trials: tuple[int, ...] = (100, 1_000, 10_000)


def measure(settings: Settings) -> list[Row]:
    return [of_trials(trials) for trials in settings.trials]


def of_trials(trials: int) -> Row:
    """`trials` over all scenarios."""
    with tempfile.TemporaryDirectory() as folder:
        store = RecordStore(Path(folder) / "study")
        made_up_search(store, SCENARIOS, trials // len(SCENARIOS) + 1, with_files=40)
        out = Path(folder) / "report.html"
        wall, own = time.perf_counter(), time.process_time()
        write(store.root.path, str(out))
        return {
            "trials": str(len(list(store.read_all()))),
            "seconds": time.perf_counter() - wall,
            "seconds of CPU": time.process_time() - own,
            "MB": out.stat().st_size / 1e6,
        }


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("report", "The report of a large search", measure(settings), settings)
