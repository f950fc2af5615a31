"""The status of a study as a person sees it: a table, and a summary in lines."""

import time
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dfpl.study.status import SearchStatus, Status

WIDE = 100
"""Columns of a terminal from which on the table shows more."""
REASONS = 5
"""Reasons of failures that are shown; the others are counted."""
LOG_WIDTH = 110


def new_console() -> Console:
    """A console for this terminal, or for a job's log, where lines are never broken."""
    found = Console(highlight=False, soft_wrap=True)
    if found.is_terminal:
        return found
    return Console(highlight=False, soft_wrap=True, width=LOG_WIDTH)


def table(status: Status, width: int) -> Table:
    """A row per search."""
    columns: dict[str, Callable[[SearchStatus], str]] = {
        "done": lambda s: f"{s.done}/{s.wanted}",
        "running": lambda s: str(s.running),
        "waiting": lambda s: str(s.waiting),
        "complete": lambda s: str(s.complete),
        "pruned": lambda s: str(s.pruned),
        "failed": lambda s: str(s.failed),
        "best": lambda s: _number(s.best),
        "trial": lambda s: "-" if s.best_trial is None else str(s.best_trial),
        "paper": lambda s: _number(s.paper),
        "epochs": lambda s: f"{s.epochs:,}",
        "saved": lambda s: share(s.epochs_saved, s.epochs),
        "s/trial": lambda s: "-" if s.seconds is None else f"{s.seconds:.3g}",
    }
    for name in () if width >= WIDE else ("waiting", "epochs", "s/trial"):
        del columns[name]
    shown = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("search", overflow="fold")
    for name in columns:
        shown.add_column(name, justify="right", overflow="fold")
    for search in status.searches:
        shown.add_row(search.name, *(cell(search) for cell in columns.values()))
    return shown


def summary(status: Status) -> list[str]:
    """Counts, epochs, time, the driver, and why trials failed."""
    counts = ", ".join(f"{status.total(n)} {n}" for n in ("complete", "pruned", "failed"))
    epochs, saved = status.total("epochs"), status.total("epochs_saved")
    lines = [
        f"trials    {status.total('done')} of {status.total('wanted')} done: {counts}; "
        f"{status.total('running')} running, {status.total('waiting')} waiting",
        f"epochs    {epochs:,} trained, {saved:,} saved by stopping ({share(saved, epochs)})",
    ]
    if status.spent_s is not None:
        lines.append(f"time      {clock(status.spent_s)} spent{_left(status)}")
    lines.append(f"driver    {_driver(status)}")
    for failure in status.failures[:REASONS]:
        example = f"{failure.search} trial {failure.trial}: {failure.reason}"
        lines.append(f"failed    {failure.count} x, such as {example}")
    others = status.failures[REASONS:]
    if others:
        count = sum(failure.count for failure in others)
        lines.append(f"failed    {count} x for {len(others)} other reasons")
    return lines


def render(status: Status, width: int) -> Group:
    """The whole picture as one thing, whose lines are broken where they are too long."""
    lines = [Text(line, no_wrap=False, overflow="fold") for line in summary(status)]
    return Group(table(status, width), Text(), *lines)


def show(status: Status, console: Console) -> None:
    """Print the whole picture; a long reason is broken on a terminal and whole in a log."""
    console.print(table(status, console.width), soft_wrap=False)
    console.print()
    for line in summary(status):
        console.print(line, markup=False, soft_wrap=not console.is_terminal)


def follow(look: Callable[[], Status], console: Console, every_s: float = 2.0) -> Status:
    """Show the picture until the study is done, its driver has gone, or Ctrl-C: in place on a
    terminal, else again whenever a trial has ended."""
    status = look()
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    try:
        with live or nullcontext():
            shown = -1
            while True:
                if live is not None:
                    live.update(render(status, console.width), refresh=True)
                elif status.total("done") != shown:
                    shown = status.total("done")
                    show(status, console)
                if status.finished or status.driver.state != "running":
                    return status
                time.sleep(every_s)
                status = look()
    except KeyboardInterrupt:
        return status


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def share(saved: int, trained: int) -> str:
    """Epochs saved, of those that whole trials would have trained."""
    return f"{saved / max(1, saved + trained):.0%}".replace("%", " %")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _left(status: Status) -> str:
    if status.finished:
        return ""
    if status.eta_s is None:
        return ", time left not known yet"
    return f", about {clock(status.eta_s)} left"


def _driver(status: Status) -> str:
    """Whether somebody works on the study, and what to do if nobody does."""
    driver, cut_off = status.driver, status.total("cut_off")
    ago = "" if driver.heard_s is None else clock(driver.heard_s)
    if driver.state == "running":
        return f"running, last heard of {round(driver.heard_s or 0)} s ago"
    if status.finished:
        return "ended" if driver.state == "ended" else "all trials have ended"
    first = f", first with {cut_off} trial(s) that were cut off" if cut_off else ""
    goes_on = f"the same command goes on{first}"
    return {
        "silent": f"not heard of for {ago}; if it is dead, {goes_on}",
        "ended": f"ended {ago} ago; {goes_on}",
        "unknown": f"not running, or of an older version; {goes_on}",
    }[driver.state]
