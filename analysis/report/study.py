"""What a report is about: the records of a folder, all read at one moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dfpl.config import Metric
from dfpl.fields import ConfigError
from dfpl.storage import Storage
from dfpl.study.records import Record, RecordStore


class Snapshot(RecordStore):
    """Reads each record once: what a running study adds does not make the sections differ, and a
    study of 10,000 trials is not read again for each of them."""

    def __init__(self, root: Storage | str) -> None:
        super().__init__(root)
        self.of_run = {record.run_id: record for record in RecordStore(self.root).read_all()}

    def read(self, run_id: str) -> Record | None:
        return self.of_run.get(run_id)

    def read_all(self) -> Iterator[Record]:
        yield from self.of_run.values()


@dataclass(frozen=True)
class Study:
    """A folder of runs."""

    store: Snapshot
    folder: str
    """As it was typed, without keys and passwords."""
    facts: dict[str, Any]
    """What study.json says; nothing where it is not there."""

    @classmethod
    def read(cls, run_dir: str) -> "Study":
        """Raises ConfigError where there is no record."""
        store = Snapshot(run_dir)
        if not store.of_run:
            raise ConfigError(f"no records below {store.root.shown}/records; run a study first")
        try:
            facts = store.root.read_json("study.json")
        except (FileNotFoundError, ValueError):
            facts = {}
        return cls(store, store.root.shown if "://" in run_dir else run_dir, facts)

    @cached_property
    def records(self) -> list[Record]:
        """In the order in which they were made."""
        order = ("finished_at", "search", "trial")
        return sorted(self.store.read_all(), key=lambda r: tuple(getattr(r, k) for k in order))

    @property
    def is_search(self) -> bool:
        """Whether its trials were suggested; else it is a list of runs."""
        return "space" in self.facts and "objective" in self.facts

    @property
    def metric(self) -> Metric:
        """By which the runs chose their best epoch; that of the last record."""
        return self.records[-1].config["metric"]

    @property
    def metric_words(self) -> str:
        return self.metric.replace("_", " ").replace("prauc", "PRAUC").replace("auroc", "AUROC")

    @property
    def dataset(self) -> str:
        return self.records[-1].config["dataset"]

    @property
    def subtitle(self) -> str:
        kind = "Search" if self.is_search else "Runs"
        return f"{kind} on {self.dataset}, by {self.metric_words}"
