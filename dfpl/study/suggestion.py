"""A point to be tried, kept as a file before it is: no suggestion is lost with the driver."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dfpl.config import RunConfig
from dfpl.storage import Storage
from dfpl.study.objective import Block, Met, Objective, Outcome, outcome
from dfpl.study.records import Record, RecordStore

FOLDER = "suggestions"


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A point to be tried in one search, in the search's blocks one after another."""

    number: int
    """Position within its search; 0 is the paper's point."""
    search: str
    """Name of the search: a scenario, or the robust objective."""
    point: dict[str, Any]
    blocks: list[str]
    """Names of its blocks in the order in which it meets them."""
    run_ids: list[str]
    """The run of each block."""
    suggested_at: float = 0.0
    origin: str = "sampler"
    """Where the point is from: paper, transfer, prior, grid, or the sampler."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """What the sampler noted about it for itself, as NSGA-II its generation."""

    @property
    def name(self) -> str:
        return trial_name(self.search, self.number)

    def write(self, root: Storage) -> None:
        root.write_json(f"{FOLDER}/{self.name}.json", vars(self))

    @classmethod
    def read(cls, root: Storage, search: str, number: int) -> "Suggestion":
        return cls(**root.read_json(f"{FOLDER}/{trial_name(search, number)}.json"))

    @classmethod
    def read_all(cls, root: Storage) -> Iterator["Suggestion"]:
        """The suggestions of a study, by search and number; one that is torn counts as none."""
        folder = root / FOLDER
        for file in folder.names(".json"):
            try:
                yield cls(**folder.read_json(file))
            except (ValueError, TypeError):
                continue


def trial_name(search: str, number: int) -> str:
    """How files, Ray and messages call a trial."""
    return f"{search}-{number:05d}"


def run_of(base: RunConfig, point: dict[str, Any], block: Block) -> RunConfig:
    """The run of a point in a block."""
    return base.with_values({**point, "scenario": block.scenario.to_dict(), "seed": block.seed})


class Ended(NamedTuple):
    """A trial that has ended, and the whole runs that it leaves."""

    outcome: Outcome
    records: list[Record]
    finished_at: str
    """When its last run ended."""

    @property
    def met(self) -> list[Met]:
        """What it reached in the blocks that it met to the end."""
        return [Met.of(record) for record in self.records]


def ended(suggestion: Suggestion, objective: Objective, store: RecordStore) -> Ended | None:
    """How a trial ended, from its records; None while it has not."""
    records: list[Record] = []
    for run_id in suggestion.run_ids:
        record = store.read(run_id)
        if record is None:
            break
        records.append(record)
        if record.state != "complete":
            break
    several = len(suggestion.run_ids) > 1
    dropped = store.dropped(suggestion.name) if several else ""
    found = outcome(objective, records, len(suggestion.run_ids), dropped)
    whole = [record for record in records if record.state == "complete"]
    return None if found is None else Ended(found, whole, records[-1].finished_at)
