"""One picture of a study, from what its drivers and its trials leave behind; no Ray, no pandas."""

import time
from dataclasses import dataclass

from dfpl.storage import Storage, StorageError
from dfpl.study.failures import Failure, Failures, one_line
from dfpl.study.ledger import Ledger
from dfpl.study.session import Driver, Heartbeat, Session, read_sessions
from dfpl.study.tally import Tally


@dataclass(frozen=True, kw_only=True)
class SearchStatus:
    """How far one search is, or one sweep."""

    name: str
    wanted: int
    """Trials asked for; at least those that were suggested."""
    complete: int
    pruned: int
    failed: int
    running: int
    cut_off: int
    """Begun, and not running: their driver ended before they did."""
    best: float | None
    best_trial: int | None
    paper: float | None
    """Value of the paper's point, which is trial 0 of a search."""
    epochs: int
    """Epochs trained."""
    epochs_saved: int
    """Epochs that pruned trials would have trained had they been whole."""
    seconds: float | None
    """Median training time of a trial."""

    @property
    def done(self) -> int:
        return self.complete + self.pruned + self.failed

    @property
    def waiting(self) -> int:
        return self.wanted - self.done - self.running


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a study is."""

    searches: list[SearchStatus]
    failures: list[Failure]
    driver: Driver
    spent_s: float | None
    """Wall time of the last session."""
    eta_s: float | None
    """Wall time until that session is done; None where nothing is known yet."""

    @property
    def finished(self) -> bool:
        """Whether every trial that was asked for has ended, in whichever state."""
        return bool(self.searches) and self.total("done") == self.total("wanted")

    def total(self, count: str) -> int:
        """A count, such as `pruned`, over all searches."""
        return sum(getattr(search, count) for search in self.searches)

    @classmethod
    def of(cls, root: Storage) -> "Status":
        """Read a study's folder once. Raises StorageError where there is no study."""
        return Watch(root).look()


class Watch:
    """Looks at a study's folder from outside, again and again; reads no record twice."""

    def __init__(self, root: Storage) -> None:
        if not any(root.exists(name) for name in ("study.json", "progress", "suggestions")):
            raise StorageError(
                f"no study in {one_line(root.root)} (looked for study.json, progress/ and "
                "suggestions/); give the folder that the study named when it started, such as "
                "runs/tune_table"
            )
        self.root = root
        self.ledger = Ledger(root)

    def look(self) -> Status:
        sessions = read_sessions(self.root)
        for session, _ in sessions:
            self.ledger.expect(session)
        self.ledger.refresh()
        return status_of(self.ledger, sessions, time.time())


def status_of(ledger: Ledger, sessions: list[tuple[Session, Heartbeat]], now: float) -> Status:
    """The picture of what a ledger knows and the drivers say of themselves, the last one at the
    end. Costs the same however many trials there are."""
    searches = {name: _search(name, tally, 0, 0) for name, tally in ledger.tallies.items()}
    driver, spent_s, eta_s = Driver(), None, None
    for session, heard in sessions:
        driver = heard.driver(now)
        alive = driver.state == "running"
        for name, wanted in session.trials.items():
            room = session.concurrent if alive else 0
            searches[name] = _search(name, ledger.tally(name), wanted, room)
        own = {name: searches[name] for name in session.trials}
        spent_s = max(0.0, (now if alive else heard.at) - session.started_at)
        ended = sum(ledger.tally(name).since(session.started_at) for name in own)
        eta_s = eta(list(own.values()), session.concurrent, ended, spent_s)
    failures = Failures()
    for name in searches:
        failures.update(ledger.tally(name).failures)
    return Status(
        searches=[searches[name] for name in sorted(searches)],
        failures=failures.most_frequent_first(),
        driver=driver,
        spent_s=spent_s,
        eta_s=eta_s,
    )


def _search(name: str, tally: Tally, wanted: int, room: int) -> SearchStatus:
    """`room`: how many trials the driver runs at once; none where it does not live."""
    running = min(tally.open, room)
    return SearchStatus(
        name=name,
        wanted=max(wanted, tally.states.total() + tally.open),
        complete=tally.states["complete"],
        pruned=tally.states["pruned"],
        failed=tally.states["failed"],
        running=running,
        cut_off=tally.open - running if tally.suggests else 0,
        best=tally.best,
        best_trial=tally.best_trial,
        paper=tally.paper,
        epochs=tally.epochs,
        epochs_saved=tally.epochs_saved,
        seconds=tally.median_seconds,
    )


def eta(searches: list[SearchStatus], concurrent: int, ended: int, spent_s: float) -> float | None:
    """Seconds that the trials to go will take.

    At the pace of this session, of which `ended` trials were ended in `spent_s`; as long as fewer
    have ended than run at once, by the median training time of the trials of each search.
    """
    left = sum(search.wanted - search.done for search in searches)
    if not left:
        return 0.0
    if ended >= concurrent:
        return left * spent_s / ended
    known = [search.seconds for search in searches if search.seconds is not None]
    if not known:
        return None
    typical_s = sum(known) / len(known)
    work_s = [(s.wanted - s.done) * (s.seconds or typical_s) for s in searches]
    return sum(work_s) / min(concurrent, left)
