"""An Optuna storage in which a study can be watched: a view of the records, never the truth.

`optuna-dashboard` and Optuna's own plots read it, while the study runs or afterwards. What cannot
be written there is said once and costs the study nothing.
"""

import re
from collections.abc import Callable
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dfpl.fields import ConfigError


class View:
    """The searches of a study as studies `NAME/SEARCH` of an Optuna storage."""

    def __init__(self, url: str, name: str, complain: Callable[[str], None]) -> None:
        """Raises ConfigError where the storage cannot be opened."""
        self.url = url
        self.name = name
        self.complain = complain
        self.studies: dict[str, optuna.Study] = {}
        self.numbers: dict[str, dict[str, int]] = {}
        """By search, the number in the storage of each trial."""
        self.steps: dict[str, int] = {}
        """The last step shown of each trial."""
        self.trouble = ""
        """Why the storage is not written any more."""
        try:
            self.storage = optuna.storages.get_storage(url)
        except Exception as error:  # of whichever database
            raise ConfigError(
                f"the Optuna storage {shown(url)} cannot be opened: {_line(error)}; "
                "give for instance sqlite:///trials.db"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps a copy of the searcher that nothing reads: there a view shows nothing, and
        holds no connection and no password."""
        alone: dict[str, Any] = {"url": "", "storage": None, "studies": {}, "complain": print}
        return {**vars(self), **alone, "trouble": "a copy"}

    def opened(self, search: str, values: int, trials: dict[str, FrozenTrial]) -> None:
        """Show a search anew: what an earlier session left there is replaced."""

        def write() -> None:
            title = f"{self.name}/{search}"
            if title in optuna.get_all_study_names(self.storage):
                optuna.delete_study(study_name=title, storage=self.storage)
            study = optuna.create_study(
                study_name=title,
                storage=self.storage,
                directions=[StudyDirection.MAXIMIZE] * values,
            )
            self.studies[search], self.numbers[search] = study, {}
            for trial_name, trial in trials.items():
                self._add(search, trial_name, trial)

        self._guarded(write)

    def suggested(self, search: str, trial_name: str, trial: FrozenTrial) -> None:
        """Show a trial; one that is suggested again is there already."""
        if trial_name not in self.numbers.get(search, {}):
            self._guarded(lambda: self._add(search, trial_name, trial))

    def reported(self, search: str, trial_name: str, step: int, value: float) -> None:
        """Show a step once: a trial that died tells its steps again."""
        if step > self.steps.get(trial_name, 0):
            self.steps[trial_name] = step
            self._guarded(lambda: self._trial(search, trial_name).report(value, step))

    def told(self, search: str, trial_name: str, ended: FrozenTrial) -> None:
        def write() -> None:
            trial = self._trial(search, trial_name)
            for key, value in ended.user_attrs.items():
                trial.set_user_attr(key, value)
            complete = ended.state == TrialState.COMPLETE
            values = ended.values if complete else None
            self.studies[search].tell(self.numbers[search][trial_name], values, ended.state)

        self._guarded(write)

    def _add(self, search: str, trial_name: str, trial: FrozenTrial) -> None:
        numbers = self.numbers[search]
        numbers[trial_name] = len(numbers)
        self.studies[search].add_trial(trial)

    def _trial(self, search: str, trial_name: str) -> optuna.Trial:
        study: Any = self.studies[search]
        number = self.numbers[search][trial_name]
        identity = self.storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        return optuna.Trial(study, identity)

    def _guarded(self, write: Callable[[], None]) -> None:
        if self.trouble:
            return
        try:
            write()
        except Exception as error:  # of whichever database; the records are not touched
            self.trouble = _line(error)
            self.complain(
                f"--optuna-storage {shown(self.url)} could not be written ({self.trouble}); the "
                "study goes on without it, and dfpl optuna writes it afterwards"
            )


def shown(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(//[^:/@]*):[^/]*@", r"\1:***@", url)


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
