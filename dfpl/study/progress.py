"""What a person sees while a study runs: a live table on a terminal, in a log a line per trial."""

import time
from collections.abc import Callable
from functools import wraps
from math import inf
from typing import Any

from ray import tune
from rich.console import Console
from rich.live import Live

from dfpl.storage import Storage
from dfpl.study.failures import NO_RECORD, one_line
from dfpl.study.ledger import Ledger
from dfpl.study.picture import clock, new_console, render, show
from dfpl.study.session import HEARTBEAT_S, Heartbeat, Session
from dfpl.study.status import Status, status_of
from dfpl.study.tally import STATES, Key, Trial

console = new_console()
REFRESH_S = 0.5
"""Least seconds between two pictures of the live table."""


def watching(method: Callable[..., None]) -> Callable[..., None]:
    """Keep what goes wrong here from the study: Tune would end it for a callback's exception."""

    @wraps(method)
    def calm(self: "Progress", *args: Any, **info: Any) -> None:
        try:
            method(self, *args, **info)
        except Exception as error:  # of whichever kind: a watcher must not cost a study
            self.complain(error)

    return calm


class Progress(tune.Callback):
    """Shows how far a study is, and leaves heartbeats for those who look from another shell.

    A context around the study, which closes with a summary. It only watches: what it cannot read
    or write it says once, and the study goes on.
    """

    def __init__(
        self,
        session: Session,
        root: Storage,
        shown_on: Console = console,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.session = session
        self.root = root
        self.console = shown_on
        self.now = now
        self.ledger = Ledger(root, session.trials)
        self.live: Live | None = None
        self.beat_at = self.shown_at = -inf
        self.complained = False

    def __enter__(self) -> "Progress":
        self._announce()
        self._open()
        return self

    def __exit__(self, *error: Any) -> None:
        self._end()

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps its callbacks in a file; nothing of this one has to be kept."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._began(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        last = trial.last_result or {}
        self._ended(trial, last.get("state", ""), last.get("value"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its process died; without a record it comes again."""
        self._ended(trial, "", None)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._tick()

    def complain(self, error: Exception) -> None:
        """Say once that watching does not work."""
        if not self.complained:
            self.complained = True
            reason = one_line(f"{type(error).__name__}: {error}")
            self._say(f"progress is not shown rightly; the study goes on: {reason}")

    def status(self, ended: bool = False) -> Status:
        heard = Heartbeat(at=self.now(), ended=ended)
        return status_of(self.ledger, [(self.session, heard)], self.now())

    @watching
    def _announce(self) -> None:
        self.session.save(self.root)
        self._tick()

    @watching
    def _open(self) -> None:
        """Enter what earlier sessions did, and show it."""
        self.ledger.expect(self.session)
        self.ledger.refresh()
        if self.ledger.ended:
            self._say(f"{len(self.ledger.ended)} trials have ended already; they are not repeated")
        if self.console.is_terminal:
            self.live = Live(console=self.console, auto_refresh=False)
            self.live.start()

    @watching
    def _began(self, trial: Any) -> None:
        self.ledger.know(*self._key(trial))

    @watching
    def _ended(self, trial: Any, state: str, value: float | None) -> None:
        """Enter a trial once: Tune shows finished ones of earlier sessions again, and may start
        one again whose actor was lost."""
        search, number = key = self._key(trial)
        if key in self.ledger.ended:
            return
        found = self._recorded(search, number)
        if found is None and state in STATES:
            reason = NO_RECORD if state == "failed" else ""
            value = value if state == "complete" else None
            found = Trial(search, number, state, value, reason, finished_at=self.now())
            self.ledger.enter(found)
        if found is not None and (self.live is None or found.state == "failed"):
            self._say(self._line(found))

    def _recorded(self, search: str, number: int) -> Trial | None:
        """How a trial ended, by its records; None where they cannot be read."""
        try:
            return self.ledger.look(search, number)
        except OSError as error:
            self.complain(error)
            return None

    @watching
    def _tick(self) -> None:
        """Leave a heartbeat and refresh the table, neither too often; at once where the clock was
        set back."""
        now = self.now()
        if not 0 <= now - self.beat_at < HEARTBEAT_S:
            self.beat_at = now
            Heartbeat(at=now).save(self.root, self.session.name)
        if self.live is not None and not 0 <= now - self.shown_at < REFRESH_S:
            self.shown_at = now
            self.live.update(render(self.status(), self.console.width), refresh=True)

    @watching
    def _end(self) -> None:
        if self.live is not None:
            live, self.live = self.live, None
            live.transient = True
            live.stop()
        show(self.status(ended=True), self.console)
        Heartbeat(at=self.now(), ended=True).save(self.root, self.session.name)

    def _key(self, trial: Any) -> Key:
        """Search and number of a trial of Tune; a sweep's says its run alone."""
        config = trial.config
        if "run" in config:
            return self.session.name, config["run"]
        return config["search"], config["trial"]

    def _line(self, trial: Trial) -> str:
        status = self.status()
        done, wanted = status.total("done"), status.total("wanted")
        best = self.ledger.tally(trial.search).best
        return (
            f"[{done:{len(str(wanted))}}/{wanted}] {trial.search:<11} trial {trial.number:<4} "
            f"{trial.state:<9}{_shown(trial.value)}{'' if best is None else f'   best {best:.4f}'}"
            f"{f'   {trial.epochs_saved} epochs saved' if trial.epochs_saved else ''}"
            f"   {clock(status.spent_s or 0.0)} spent, {_left(status.eta_s)} left"
            f"{f'   {trial.reason}' if trial.state == 'failed' else ''}"
        )

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False)


def _shown(value: float | None) -> str:
    return " " * 8 if value is None else f"{value:8.4f}"


def _left(seconds: float | None) -> str:
    return "?" if seconds is None else clock(seconds)
