"""One record per run: whole or not there, and all that tables and figures read.

Below the folder of a study: `records/<run_id>.json`, `epochs/<run_id>.parquet`,
`predictions/<run_id>.parquet`, `suggestions/<trial>.json`, `dropped/<trial>.json`, `study.json`;
and of its drivers `progress/`, `heartbeats/` and `drivers/`. No file has two writers.
"""

import hashlib
import io
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from dfpl.config import RunConfig
from dfpl.fields import Row, flatten
from dfpl.predictions import Predictions
from dfpl.storage import Storage

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one run leaves behind, in Optuna's words for its state."""

    run_id: str
    study: str
    search: str
    """The search that the run belongs to: a scenario, or the name of a robust objective."""
    trial: int
    """Number of the trial in its search; 0 is the paper's point."""
    scenario: str
    state: State
    reason: str = ""
    """Why a run is pruned or failed."""
    value: float | None = None
    """Validation metric of the best epoch so far, under the run's scenario."""
    best_epoch: int = 0
    epochs: int = 0
    """Epochs that were trained."""
    config: dict[str, Any] = field(default_factory=dict)
    """The whole RunConfig: nothing has to be parsed out of a file name."""
    metrics: dict[str, float] = field(default_factory=dict)
    """`val/...` and `test/...`, measured at the epoch that was best on validation."""
    num_parameters: int = 0
    seconds: float = 0.0
    """Spent in training, all attempts together."""
    overhead_s: float | None = None
    """From the suggestion to the first batch, where nothing was waited for in between."""
    launcher: str = ""
    workers: int = 1
    threads: int = 1
    compute: dict[str, Any] = field(default_factory=dict)
    """How the arithmetic was done: the fields of `dfpl.compute.Compute`."""
    device: str = "cpu"
    data: str = ""
    """Folder of the packed data, as seen by the run."""
    versions: dict[str, str] = field(default_factory=dict)
    finished_at: str = ""


class RecordStore:
    """The records of one study."""

    def __init__(self, root: Storage | str | PathLike[str]) -> None:
        self.root = root if isinstance(root, Storage) else Storage(root)

    def save(self, record: Record, rows: list[Row], found: Predictions | None) -> None:
        """Write epochs and predictions, then the record, whose presence is the done mark; what
        was kept to resume the run is not needed any more."""
        if rows:
            stream = io.BytesIO()
            pd.DataFrame(rows).to_parquet(stream, index=False)
            self.root.write(f"epochs/{record.run_id}.parquet", stream.getvalue())
        if found is not None:
            self.root.write(f"predictions/{record.run_id}.parquet", found.to_parquet())
        self.root.write_json(f"records/{record.run_id}.json", asdict(record))
        self.root.delete_folder(f"checkpoints/{record.run_id}")

    def read(self, run_id: str) -> Record | None:
        """The record of a finished run, or None; a file that is no record counts as none."""
        try:
            values = self.root.read_json(f"records/{run_id}.json")
            return Record(**{f.name: values[f.name] for f in fields(Record) if f.name in values})
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def set_aside_torn(self) -> list[str]:
        """Rename files that cannot be read to NAME.torn, and return their names.

        We write whole files only, so a fault of the disk or a broken copy made them. The same
        command makes them again; a run whose epochs or predictions are torn is trained again. Not
        in a bucket, which keeps whole files and is slow to read.
        """
        if not self.root.is_local:
            return []
        torn = [
            f"{folder}/{file}"
            for folder in ("suggestions", "dropped", "records")
            for file in (self.root / folder).names(".json")
            if not _is_whole_json(Path(self.root.path, folder, file))
        ]
        for folder in ("epochs", "predictions"):
            for file in (self.root / folder).names(".parquet"):
                if not _is_whole_parquet(Path(self.root.path, folder, file)):
                    record = f"records/{file.removesuffix('.parquet')}.json"
                    torn += [f"{folder}/{file}", *([record] if self.root.exists(record) else [])]
        torn = list(dict.fromkeys(torn))
        for name in torn:
            self.root.set_aside(name)
        return torn

    def drop(self, trial: str, reason: str) -> None:
        """Note that the race ended a trial, named as its suggestion, after a whole run."""
        self.root.write_json(f"dropped/{trial}.json", {"reason": reason})

    def dropped(self, trial: str) -> str:
        """Why the race ended a trial; empty where it did not."""
        try:
            return str(self.root.read_json(f"dropped/{trial}.json")["reason"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""

    def fail(self, run: RunConfig, search: str, trial: int, reason: str) -> Record:
        """Record a run whose own process could not, because it died."""
        record = Record(
            run_id=run.run_id,
            study=self.name,
            search=search,
            trial=trial,
            scenario=str(run.scenario),
            state="failed",
            reason=reason,
            config=run.to_dict(),
            versions=provenance(),
        )
        self.save(record, [], None)
        return record

    @property
    def name(self) -> str:
        """The study's name: that of its folder."""
        return self.root.name

    def read_all(self) -> Iterator[Record]:
        for name in (self.root / "records").names(".json"):
            record = self.read(name.removesuffix(".json"))
            if record is not None:
                yield record

    def epochs(self, run_id: str) -> list[Row]:
        """One dictionary per trained epoch of a finished run."""
        name = f"epochs/{run_id}.parquet"
        if not self.root.exists(name):
            return []
        stream = io.BytesIO(self.root.read(name))
        calm: Any = {"use_threads": False, "pre_buffer": False}  # threads can abort an exit
        frame = pd.read_parquet(stream, engine="pyarrow", **calm)
        return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]

    def predictions(self, run_id: str) -> Predictions:
        """Logits of a finished run: validation under its scenario, test in the three states."""
        return Predictions.from_parquet(self.root.read(f"predictions/{run_id}.parquet"))


def _is_whole_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def _is_whole_parquet(path: Path) -> bool:
    """Whether it begins and ends as Parquet does; cut off or full of zeros, it does not."""
    with path.open("rb") as stream:
        start = stream.read(4)
        if path.stat().st_size < 12:
            return False
        stream.seek(-4, os.SEEK_END)
        return start == stream.read(4) == b"PAR1"


def load(root: str | PathLike[str]) -> pd.DataFrame:
    """One row per run of a study; nested values under dotted names (`config.method.alpha`).

    Raises FileNotFoundError, naming the place, where there is no record.
    """
    store = RecordStore(root)
    rows = [dict(flatten(vars(record))) for record in store.read_all()]
    if not rows:
        raise FileNotFoundError(f"no records below {store.root}/records; run a study first")
    return pd.DataFrame(rows).sort_values(["search", "trial", "scenario"], ignore_index=True)


@cache
def provenance() -> dict[str, str]:
    """Versions of what computes, of this code, and the kind of machine."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("dfpl", "torch", "ray", "optuna", "numpy", "monai", "torchmetrics"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return {**found, "code": _code_hash(), "commit": _commit()}


def _code_hash() -> str:
    """A hash of the library's files: says whether two runs used the same code without git."""
    digest = hashlib.blake2b(digest_size=6)
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
