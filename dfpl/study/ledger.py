"""The books of a study: each trial that ended is entered once, and is not read again."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from dfpl.storage import Storage
from dfpl.study.failures import one_line
from dfpl.study.session import Session
from dfpl.study.tally import STATES, Key, Tally, Trial

READERS = 32
"""Files read at once from an object store, where each takes a journey."""


class Run(NamedTuple):
    """What a record says that is needed here."""

    state: str
    value: float | None
    reason: str
    epochs: int
    whole: int
    """Epochs of a whole run."""
    seconds: float
    finished_at: float

    @classmethod
    def of(cls, values: Any) -> "Run | None":
        """From the content of a record's file; what is no record is none."""
        try:
            epochs = int(values.get("epochs", 0))
            found = cls(
                state=values["state"],
                value=values.get("value"),
                reason=values.get("reason", ""),
                epochs=epochs,
                whole=int(values.get("config", {}).get("optim", {}).get("epochs", epochs)),
                seconds=float(values.get("seconds", 0.0)),
                finished_at=_moment(values.get("finished_at", "")),
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            return None
        return found if found.state in STATES else None


class Suggested(NamedTuple):
    """A trial that has not ended: its runs in the order in which they are made."""

    run_ids: list[str]
    blocks: list[str]
    """The block of the objective that each of them is."""


class Ledger:
    """Reads trials from a study's folder and enters those that ended."""

    def __init__(self, root: Storage, searches: Collection[str] | None = None) -> None:
        """`searches` limits it to these."""
        self.root = root
        self.searches = searches
        self.tallies: dict[str, Tally] = {}
        self.open: dict[Key, Suggested] = {}
        self.ended: set[Key] = set()
        self._runs: dict[str, Run] = {}
        """Finished runs of trials that have not ended."""
        self._dropped: dict[Key, str] = {}
        """Why the race ended a trial."""

    def tally(self, search: str) -> Tally:
        return self.tallies.setdefault(search, Tally())

    def expect(self, session: Session) -> None:
        """Know the runs of a sweep, which are not suggested one by one."""
        for search, run_ids in session.runs.items():
            self.tally(search).suggests = False
            for number, run_id in enumerate(run_ids):
                self._open((search, number), Suggested([run_id], [""]))

    def refresh(self) -> None:
        """Enter everything that ended since the last time: three listings, and the new files."""
        for values in _read_all(self.root / "suggestions", self._new_files()):
            self._suggested(values)
        names = {f"{s}-{n:05d}.json": (s, n) for (s, n), one in self.open.items() if one.blocks[1:]}
        dropped = self.root / "dropped"
        files = sorted(names.keys() & set(dropped.names(".json")))
        for file, values in zip(files, _read_all(dropped, files), strict=True):
            self._drop(names[file], values)
        wanted = {f"{name}.json": name for one in self.open.values() for name in one.run_ids}
        known = {f"{name}.json" for name in self._runs}
        records = self.root / "records"
        files = sorted((wanted.keys() - known) & set(records.names(".json")))
        for file, values in zip(files, _read_all(records, files), strict=True):
            self._finished(wanted[file], values)
        for key in list(self.open):
            self._settle(key)
        needed = {name for one in self.open.values() for name in one.run_ids}
        self._runs = {name: run for name, run in self._runs.items() if name in needed}

    def know(self, search: str, number: int) -> None:
        """Know a trial that was begun."""
        key = (search, number)
        if key not in self.open and key not in self.ended:
            self._suggested(_read(self.root / "suggestions", _file(key)))

    def look(self, search: str, number: int) -> Trial | None:
        """Enter a trial, if it has ended and is not entered yet, and return it."""
        key = (search, number)
        self.know(search, number)
        if key not in self.open:
            return None
        run_ids = self.open[key].run_ids
        for run_id in run_ids:
            if run_id not in self._runs:
                self._finished(run_id, _read(self.root / "records", f"{run_id}.json"))
            if run_id not in self._runs:
                break
        if len(run_ids) > 1:
            self._drop(key, _read(self.root / "dropped", _file(key)))
        found = self._settle(key)
        for run_id in run_ids if found else ():
            self._runs.pop(run_id, None)
        return found

    def enter(self, trial: Trial) -> None:
        """Enter a trial that ended, once."""
        key = (trial.search, trial.number)
        if key in self.ended:
            return
        self.ended.add(key)
        tally = self.tally(trial.search)
        if key in self.open:
            tally.open -= 1
            del self.open[key]
        tally.add(trial)

    def _new_files(self) -> list[str]:
        """Suggestions that were not read yet."""
        found = []
        for file in (self.root / "suggestions").names(".json"):
            search, _, number = file.removesuffix(".json").rpartition("-")
            if number.isdecimal() and (self.searches is None or search in self.searches):
                key = (search, int(number))
                found += [] if key in self.open or key in self.ended else [file]
        return found

    def _suggested(self, values: Any) -> None:
        """Know a trial; what is no suggestion is passed over."""
        try:
            run_ids = [str(name) for name in values["run_ids"]]
            blocks = [str(name) for name in values.get("blocks", run_ids)]
            self._open((str(values["search"]), int(values["number"])), Suggested(run_ids, blocks))
        except (KeyError, TypeError, AttributeError, ValueError):
            return

    def _open(self, key: Key, suggested: Suggested) -> None:
        if key not in self.ended and key not in self.open:
            self.open[key] = suggested
            self.tally(key[0]).open += 1

    def _drop(self, key: Key, values: Any) -> None:
        if isinstance(values, dict) and values.get("reason"):
            self._dropped[key] = str(values["reason"])

    def _finished(self, run_id: str, values: Any) -> None:
        run = Run.of(values)
        if run is not None:
            self._runs[run_id] = run

    def _settle(self, key: Key) -> Trial | None:
        """Enter a trial that has ended, as `dfpl.study.objective.outcome` says: with its first run
        that failed or was pruned, with the race, or with its last run."""
        suggested, done = self.open[key], list[Run]()
        for run_id in suggested.run_ids:
            if run_id in self._runs:
                done.append(self._runs[run_id])
            if run_id not in self._runs or done[-1].state != "complete":
                break
        if not done:
            return None
        state, reason = done[-1].state, done[-1].reason
        if state == "complete" and key in self._dropped:
            state, reason = "pruned", self._dropped[key]
        elif state == "complete" and len(done) < len(suggested.run_ids):
            return None
        epochs, whole = sum(run.epochs for run in done), done[-1].whole * len(suggested.run_ids)
        trial = Trial(
            search=key[0],
            number=key[1],
            state=state,
            value=self._value(key, done) if state == "complete" else done[-1].value,
            reason=one_line(reason),
            epochs=epochs,
            epochs_saved=max(0, whole - epochs) if state == "pruned" else 0,
            seconds=sum(run.seconds for run in done),
            finished_at=done[-1].finished_at,
        )
        self.enter(trial)
        return trial

    def _value(self, key: Key, done: list[Run]) -> float | None:
        """The value of a complete trial; None where the objective makes several."""
        if len(done) == 1:
            return done[0].value
        from dfpl.study.objective import Met, Objective  # slow to import, and seldom needed

        about = _read(self.root, "study.json") or {}
        blocks = self.open[key].blocks
        met = [Met(name, run.value or 0.0) for name, run in zip(blocks, done, strict=True)]
        values = Objective(**about.get("objective", {})).values(met)
        return values[0] if len(values) == 1 else None


def _file(key: Key) -> str:
    """Name of a trial's files."""
    return f"{key[0]}-{key[1]:05d}.json"


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _read(folder: Storage, file: str) -> Any:
    """The content of a JSON file; None where there is none, or none yet."""
    try:
        return folder.read_json(file)
    except (FileNotFoundError, ValueError):
        return None


def _read_all(folder: Storage, files: list[str]) -> list[Any]:
    if folder.is_local:
        return [_read(folder, file) for file in files]
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(lambda file: _read(folder, file), files))
