"""The Optuna storage beside a study: what others see in it, and that it costs the study nothing."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from ray import cloudpickle
from test_searcher import finish, record, report, searcher_of, suggest

from dfpl.fields import ConfigError
from dfpl.study.objective import Kind
from dfpl.study.searcher import OptunaSearcher
from dfpl.study.view import View, shown


class Watched:
    """A study that is shown in a file, and a second connection that reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "trials.db"
        self.url = f"sqlite:///{self.file}"
        self.said: list[str] = []
        self.storages: list[Any] = []

    def view(self) -> View:
        view = View(self.url, "made_up", self.said.append)
        self.storages.append(view.storage)
        return view

    def searcher(
        self, scenarios: str = "both-50", objective: Kind = "each", trials: int = 5
    ) -> OptunaSearcher:
        return searcher_of(self.folder, scenarios, objective, trials, view=self.view())

    def seen(self, search: str = "both-50") -> optuna.Study:
        storage = optuna.storages.RDBStorage(self.url)
        self.storages.append(storage)
        return optuna.load_study(study_name=f"made_up/{search}", storage=storage)

    def close(self) -> None:
        for storage in self.storages:
            storage = getattr(storage, "_backend", storage)
            storage.remove_session()
            storage.engine.dispose()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = Watched(tmp_path)
    yield place
    place.close()


def four_states(searcher: OptunaSearcher) -> None:
    """A complete, a pruned, a failed and a running trial."""
    configs = {name: suggest(searcher, name) for name in "abcd"}
    report(searcher, "a", 0.1, 0.2)
    record(searcher, configs["a"], 0, value=0.2, epochs=2)
    searcher.on_trial_complete("a", {})
    report(searcher, "b", 0.15)
    record(searcher, configs["b"], 0, state="pruned", value=0.15, epochs=1, reason="ASHA, epoch 1")
    searcher.on_trial_complete("b", {})
    record(searcher, configs["c"], 0, state="failed", value=None, epochs=0, reason="not finite")
    searcher.on_trial_complete("c", {})
    report(searcher, "d", 0.3, 0.4)


STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]


def test_another_connection_sees_states_values_and_what_was_noted(watched: Watched) -> None:
    searcher = watched.searcher()
    four_states(searcher)
    a, b, c, d = trials = watched.seen().get_trials()
    assert [trial.state for trial in trials] == STATES
    assert [trial.value for trial in trials] == [0.2, 0.15, None, None]
    assert [trial.intermediate_values for trial in trials] == [
        {1: 0.1, 2: 0.2},
        {1: 0.15},
        {},
        {1: 0.3, 2: 0.4},
    ]
    assert (b.user_attrs["reason"], b.user_attrs["epochs"]) == ("ASHA, epoch 1", 1)
    assert (c.user_attrs["reason"], a.user_attrs["epochs"]) == ("not finite", 2)
    assert [trial.user_attrs["origin"] for trial in trials] == ["paper"] + ["sampler"] * 3
    assert [trial.user_attrs["trial"] for trial in trials] == [0, 1, 2, 3]
    assert all(trial.user_attrs["blocks"] == ["both-50/0"] for trial in trials)
    for trial in trials:
        (run,) = searcher.runs("both-50", trial.params)
        assert trial.user_attrs["run_ids"] == [run.run_id]
    assert d.params == searcher.running["d"][0].point
    assert watched.said == []


def test_another_process_sees_a_trial_that_runs(watched: Watched) -> None:
    searcher = watched.searcher()
    suggest(searcher, "a")
    report(searcher, "a", 0.3)
    code = (
        "import json, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "rows = [db.execute(f'select {what}').fetchall() for what in sys.argv[2:]]\n"
        "print(json.dumps(rows))"
    )
    queries = ["state from trials", "step, intermediate_value from trial_intermediate_values"]
    command = [sys.executable, "-c", code, str(watched.file), *queries]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[["RUNNING"]], [[1, 0.3]]]


def test_a_restart_shows_every_trial_once(watched: Watched) -> None:
    four_states(watched.searcher())
    before = watched.seen().get_trials()
    again = watched.searcher()
    between = watched.seen().get_trials()
    assert [trial.state for trial in between] == STATES[:3]  # the fourth is to be run again
    suggest(again, "d")
    after = watched.seen().get_trials()
    assert [trial.state for trial in after] == STATES
    for old, new in zip(before, after, strict=True):
        assert (old.params, old.value, old.user_attrs) == (new.params, new.value, new.user_attrs)
    for name in "efgh":
        config = suggest(again, name)
        if again.running[name][1] is not None:
            finish(again, name, config)
    assert len(watched.seen().get_trials()) == 5
    assert optuna.get_all_study_names(watched.seen()._storage) == ["made_up/both-50"]


def test_each_search_is_a_study_of_its_own(watched: Watched) -> None:
    searcher = watched.searcher("both-50,image-30", trials=2)
    for name in "abcd":
        finish(searcher, name, suggest(searcher, name))
    for search in ("both-50", "image-30"):
        assert [trial.state for trial in watched.seen(search).trials] == [TrialState.COMPLETE] * 2


def test_a_pareto_search_has_two_values(watched: Watched) -> None:
    searcher = watched.searcher("both-50,image-30", "pareto")
    config = suggest(searcher, "a")
    for at, value in enumerate((0.9, 0.4, 0.6)):
        record(searcher, config, at, value=value)
    searcher.on_trial_complete("a", {})
    study = watched.seen("pareto")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE"] * 2
    assert study.trials[0].values == [0.9, 0.4]
    assert [trial.number for trial in study.best_trials] == [0]


def searched(watched: Watched) -> optuna.Study:
    """A search of twelve trials: complete ones, pruned ones and a failed one."""
    searcher = watched.searcher(trials=12)
    for number in range(12):
        finish(searcher, str(number), suggest(searcher, str(number)))
    return watched.seen()


def test_optuna_computes_importances_from_it(watched: Watched) -> None:
    found = optuna.importance.get_param_importances(searched(watched))
    assert set(found) == {"method.alpha", "method.delta", "method.num_prototypes"}
    assert sum(found.values()) == pytest.approx(1.0)


def plots() -> Any:
    """Optuna's plotting functions, for matplotlib where it is there, else for plotly."""
    if find_spec("matplotlib"):
        pytest.importorskip("matplotlib").use("Agg")
        return optuna.visualization.matplotlib
    pytest.importorskip("plotly")
    return optuna.visualization


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["optimization_history", "intermediate_values", "param_importances", "slice"]
)
def test_optuna_plots_it(watched: Watched, name: str) -> None:
    plot = getattr(plots(), f"plot_{name}")
    assert plot(searched(watched)) is not None


@pytest.mark.filterwarnings("ignore")
def test_the_dashboard_lists_it(watched: Watched) -> None:
    dashboard: Any = pytest.importorskip("optuna_dashboard")
    study = searched(watched)
    answer: list[str] = []
    request: dict[str, Any] = {"PATH_INFO": "/api/studies"}
    setup_testing_defaults(request)
    app = dashboard.wsgi(study._storage)
    body = b"".join(app(request, lambda status, *_: answer.append(status)))
    assert answer == ["200 OK"]
    (found,) = json.loads(body)["study_summaries"]
    assert found["study_name"] == "made_up/both-50"


def test_a_storage_that_breaks_is_said_once_and_the_study_goes_on(watched: Watched) -> None:
    searcher = watched.searcher()
    finish(searcher, "a", suggest(searcher, "a"))
    database = sqlite3.connect(watched.file)
    database.execute("drop table trials")
    database.commit()
    database.close()
    for name in "bcd":
        finish(searcher, name, suggest(searcher, name))
    (said,) = watched.said
    assert said.startswith(f"--optuna-storage {watched.url} could not be written (")
    assert said.endswith("the study goes on without it, and dfpl optuna writes it afterwards")
    assert "\n" not in said
    told: list[FrozenTrial] = searcher.searches["both-50"].study.get_trials()
    assert [trial.state for trial in told] == [TrialState.COMPLETE] * 4
    assert len(list(searcher.store.read_all())) == 4


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/trials.db", "trials.db", "nonsense://host/name"]
)
def test_a_storage_that_cannot_be_opened_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        View(url, "made_up", print)
    assert str(refused.value).startswith(f"the Optuna storage {url} cannot be opened: ")
    assert str(refused.value).endswith("give for instance sqlite:///trials.db")
    assert "\n" not in str(refused.value)


def test_a_password_is_not_shown() -> None:
    url = "postgresql+nothing://me:se:cr@t@host:5432/trials"
    assert shown(url) == "postgresql+nothing://me:***@host:5432/trials"
    assert shown("sqlite:///trials.db") == "sqlite:///trials.db"
    with pytest.raises(ConfigError) as refused:
        View(url, "made_up", print)
    assert "se:cr" not in str(refused.value)


def test_tune_can_keep_a_copy_of_a_searcher_that_is_watched(watched: Watched) -> None:
    lock = threading.RLock()  # as rich's console has one

    def complain(text: str) -> None:
        with lock:
            watched.said.append(text)

    pickle: Any = cloudpickle
    view = View(watched.url, "made_up", complain)
    searcher = searcher_of(watched.folder, view=view)
    suggest(searcher, "a")
    copied: OptunaSearcher = pickle.loads(pickle.dumps(searcher))
    finish(copied, "a", {"search": "both-50", "trial": 0, **copied.paper})
    assert watched.seen().trials[0].state == TrialState.RUNNING
    assert watched.url.encode() not in pickle.dumps(searcher)
