"""What a person sees while a study runs: a line per finished trial."""

import time
from typing import Any

from ray import tune
from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console = Console(highlight=False, soft_wrap=True, width=110)  # a job's log


class Progress(tune.Callback):
    """Prints trials done, the best so far of each search, and when the study will be done."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.began = time.monotonic()
        self.best: dict[str, float] = {}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        last = trial.last_result or {}
        self._line(trial, last.get("state", "complete"), last.get("value"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._line(trial, "failed", None)

    def _line(self, trial: Any, state: str, value: float | None) -> None:
        search = trial.config.get("search", "sweep")
        number = trial.config.get("trial", trial.config.get("run"))
        self.done += 1
        if state == "complete" and value is not None:
            self.best[search] = max(value, self.best.get(search, value))
        spent = time.monotonic() - self.began
        left = spent / self.done * (self.total - self.done)
        shown = "" if value is None else f"{value:8.4f}"
        best = f"   best {self.best[search]:.4f}" if search in self.best else ""
        console.print(
            f"[{self.done:{len(str(self.total))}}/{self.total}] {search:<11} trial {number:<4} "
            f"{state:<9}{shown}{best}   {_clock(spent)} spent, {_clock(left)} left",
            markup=False,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
