"""The order in which Tune starts trials: as they were suggested."""

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler


class Fifo(FIFOScheduler):
    """Tune's own looks at all trials of a study whenever it can start one; this one looks at those
    that have not ended, which are among the last."""

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first trial that waits, or None."""
        live = tune_controller.get_live_trials()
        left, first = len(live), None
        for trial in reversed(tune_controller.get_trials()):
            if not left:
                break
            if trial in live:
                left -= 1
                first = trial if trial.status == Trial.PENDING else first
        return first
