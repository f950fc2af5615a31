"""Searches and sweeps on a small cluster in this process: warm actors, ASHA, failures, replay."""

import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from samples import make_run, save_packed

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import parse_scenarios
from dfpl.fields import Choice, ConfigError, FloatRange
from dfpl.study import run as study_run
from dfpl.study.halving import SuccessiveHalving
from dfpl.study.launch import Launch
from dfpl.study.objective import Kind, Objective
from dfpl.study.plan import SearchOptions
from dfpl.study.records import Record, RecordStore, load
from dfpl.study.resources import fit_to_cluster
from dfpl.study.run import DRIVER_ENVIRONMENT, RAY_ENVIRONMENT, _referee, search, sweep
from dfpl.train import Runtime, fit

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and files of ray itself
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SPACE = {"method.alpha": FloatRange(0.01, 10.0, log=True), "method.delta": FloatRange(0.0, 0.5)}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**RAY_ENVIRONMENT, **DRIVER_ENVIRONMENT}.items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": RAY_ENVIRONMENT},
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packed"
    save_packed(folder)
    return folder


def base_of(data: Path, **values: Any) -> RunConfig:
    return make_run(PackedDataset.load(data), **{"optim__epochs": 3, **values})


def launch_of(folder: Path, data: Path, every: float = 30.0) -> Launch:
    return Launch(
        store=RecordStore(folder),
        data=data,
        resources=fit_to_cluster(1, None, None),
        compute=Compute(),
        checkpoint_every_s=every,
    )


def run_search(
    folder: Path,
    data: Path,
    base: RunConfig,
    *,
    scenarios: str = "both-50",
    trials: int = 3,
    objective: Kind = "each",
    grace: int | None = None,
    space: Any = None,
    every: float = 30.0,
) -> None:
    """A search through Tune; the same call again goes on."""
    found = parse_scenarios(scenarios)
    options = SearchOptions(objective=objective, trials=trials, grace=grace, prior_weight=0.0)
    wanted = Objective(kind=objective)
    search(base, space or SPACE, found, wanted, options, launch_of(folder, data, every))


def rays_view(folder: Path, name: str = "ray") -> Any:
    """What Ray left on disk: the last result of each trial. An attempt that died named no run."""
    grid = tune.ResultGrid(tune.ExperimentAnalysis(str(folder / name)))
    return grid.get_dataframe().dropna(subset="run_id").set_index("run_id")


def without_time(rows: list[Any]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.glob("records/*.json")}


def assert_same_as_here(store: RecordStore, record: Record, data: Path) -> None:
    """Training the run of a record in this process gives its numbers to the last bit."""
    fitted = fit(RunConfig.from_dict(record.config), PackedDataset.load(data), Runtime())
    assert (fitted.best_value, fitted.best_epoch) == (record.value, record.best_epoch)
    assert without_time(fitted.rows) == without_time(store.epochs(record.run_id))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A study of two scenarios with three whole trials each."""
    folder = tmp_path_factory.mktemp("searched") / "study"
    run_search(folder, data, base_of(data), scenarios="both-50,image-30", grace=3)
    return folder


def test_every_trial_leaves_a_complete_record(searched: Path) -> None:
    frame: Any = load(searched)
    assert frame[["search", "trial"]].to_numpy().tolist() == [
        [name, number] for name in ("both-50", "image-30") for number in range(3)
    ]
    assert set(frame["state"]) == {"complete"}
    assert set(frame["launcher"]) == {"inline"}
    assert frame["run_id"].is_unique
    assert frame["overhead_s"].notna().all()
    assert (frame["scenario"] == frame["search"]).all()


def test_a_trial_of_a_warm_actor_is_bitwise_that_of_a_fresh_process(
    searched: Path, data: Path
) -> None:
    store = RecordStore(searched)
    for record in store.read_all():
        if record.trial in (0, 2):
            assert_same_as_here(store, record, data)


def test_the_same_call_again_trains_nothing_and_keeps_rays_view(searched: Path, data: Path) -> None:
    before, first = state_of(searched), rays_view(searched)
    suggestions = {p.name: p.read_bytes() for p in searched.glob("suggestions/*")}
    run_search(searched, data, base_of(data), scenarios="both-50,image-30", grace=3)
    assert state_of(searched) == before
    assert {p.name: p.read_bytes() for p in searched.glob("suggestions/*")} == suggestions
    again = rays_view(searched)
    frame: Any = load(searched).set_index("run_id")
    assert sorted(again.index) == sorted(first.index) == sorted(frame.index)
    assert again["value"].to_dict() == first["value"].to_dict() == frame["value"].to_dict()
    assert (again["training_iteration"] == 4).all()  # three epochs and the last word
    rows = [path.read_text().splitlines() for path in searched.glob("ray/*/result.json")]
    assert [len(lines) for lines in rows] == [4] * 6


def test_more_trials_of_the_same_study_leave_the_old_ones_alone(searched: Path, data: Path) -> None:
    before = state_of(searched)
    run_search(searched, data, base_of(data), scenarios="both-50", trials=4, grace=3)
    after = state_of(searched)
    assert {name: after[name] for name in before} == before
    (new,) = set(after) - set(before)
    found = RecordStore(searched).read(new.removesuffix(".json"))
    assert found is not None
    assert (found.search, found.trial, found.state) == ("both-50", 3, "complete")


def test_a_pruned_run_writes_its_own_record_and_the_papers_point_runs_whole(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, base = tmp_path / "study", base_of(data)
    halving = SuccessiveHalving(epochs=3, grace=1)
    halving.go_on("champion", "both-50", 1, 1.5)  # no run can beat it
    monkeypatch.setattr(study_run, "_halving", lambda epochs, options: halving)
    run_search(folder, data, base, trials=2, grace=1)
    frame: Any = load(folder)
    assert frame["state"].tolist() == ["complete", "pruned"]
    assert frame["epochs"].tolist() == [3, 1]
    assert frame["reason"][1].startswith("ASHA stopped it after epoch 1")
    assert math.isnan(frame["metrics.val/accuracy"][1])
    seen = rays_view(folder)["state"].to_dict()
    assert seen == {frame["run_id"][0]: "complete", frame["run_id"][1]: "pruned"}
    assert not list(folder.glob("predictions/" + frame["run_id"][1] + "*"))


def test_a_failing_trial_is_recorded_and_the_study_goes_on(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "study"
    space = {**SPACE, "optim.learning_rate": Choice((1e-3, 1e30))}
    run_search(folder, data, base_of(data), trials=6, grace=3, space=space)
    frame: Any = load(folder)
    failing = frame["config.optim.learning_rate"] == 1e30
    assert 0 < failing.sum() < 6
    assert set(frame["state"][failing]) == {"failed"}
    assert set(frame["state"][~failing]) == {"complete"}
    assert frame["reason"][failing].str.startswith("NonFiniteError: the objective is not").all()
    assert frame["trial"].tolist() == list(range(6))
    last_good = int(frame["trial"][~failing].max())
    assert last_good > int(frame["trial"][failing].min())
    store = RecordStore(folder)
    record = store.read(str(frame["run_id"][last_good]))
    assert record is not None
    assert_same_as_here(store, record, data)


def test_a_robust_search_judges_a_config_by_its_worst_scenario(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "study"
    where = {"scenarios": "both-50,tabular-70", "objective": "worst", "trials": 2, "grace": 3}
    run_search(folder, data, base_of(data), **where)
    frame: Any = load(folder)
    seen = rays_view(folder)
    assert frame[["search", "trial", "scenario"]].to_numpy().tolist() == [
        ["worst", trial, name] for trial in (0, 1) for name in ("both-50", "tabular-70")
    ]
    worst = frame.groupby("trial")["value"].min().tolist()
    assert sorted(seen["value"]) == sorted(worst)
    points = frame.groupby("trial")["config.method.alpha"].nunique()
    assert points.tolist() == [1, 1]
    before = state_of(folder)
    run_search(folder, data, base_of(data), **where)
    assert state_of(folder) == before
    assert sorted(rays_view(folder)["value"]) == sorted(worst)


def workers_of_this_process() -> list[int]:
    """Processes that train trials, among the descendants of this one."""
    shown = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=2) for line in shown.splitlines()[1:]]
    family = {os.getpid()}
    for _ in range(5):
        family |= {int(pid) for pid, parent, _ in rows if int(parent) in family}
    return [int(pid) for pid, _, name in rows if int(pid) in family and "ImplicitFunc" in name]


def kill_once(ready: Callable[[], bool], killed: list[int]) -> None:
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        found = workers_of_this_process() if ready() else []
        if found:
            os.kill(found[0], signal.SIGKILL)
            killed.append(found[0])
            return
        time.sleep(0.01)


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, data: Path
) -> None:
    folder, killed = tmp_path / "study", []

    def half_trained() -> bool:
        return bool(list(folder.glob("checkpoints/*/last.pt")))

    killer = threading.Thread(target=kill_once, args=(half_trained, killed))
    killer.start()
    run_search(folder, data, base_of(data, optim__epochs=40), trials=1, every=0.0)
    killer.join()
    assert killed
    store = RecordStore(folder)
    (record,) = store.read_all()
    assert (record.state, record.epochs) == ("complete", 40)
    assert_same_as_here(store, record, data)
    assert not list(folder.glob("checkpoints/*"))
    assert rays_view(folder)["value"].tolist() == [record.value]


def referee_of(folder: Path) -> Any:
    """The referee of a study of one search, in both-50."""
    objective, options = Objective(), SearchOptions(grace=1)
    searches = objective.searches(parse_scenarios("both-50"), 0)
    return _referee(9, objective, options, searches, RecordStore(folder))


def test_the_actor_of_asha_answers_again_after_its_death(tmp_path: Path) -> None:
    referee = referee_of(tmp_path / "study")
    assert ray.get(referee.may_go_on.remote("a", "both-50", 1, 0.9))
    assert not ray.get(referee.may_go_on.remote("b", "both-50", 1, 0.1))
    ray.kill(referee, no_restart=False)
    for _ in range(100):  # the kill takes a moment; the new actor has seen nobody yet
        if ray.get(referee.may_go_on.remote("b", "both-50", 1, 0.1), timeout=60):
            break
        time.sleep(0.05)
    else:
        pytest.fail("no new actor came")


def test_asha_knows_what_earlier_sessions_reached(searched: Path) -> None:
    referee = referee_of(searched)
    assert not ray.get(referee.may_go_on.remote("new", "both-50", 1, -1.0))
    assert ray.get(referee.may_go_on.remote("new", "image-30", 1, -1.0))  # not of these searches


def test_a_sweep_trains_each_run_once(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "study"
    runs = [base_of(data, seed=seed, optim__epochs=1) for seed in (0, 1)]
    for _ in range(2):
        sweep("confirm", runs, launch_of(folder, data))
        before = state_of(folder)
    assert state_of(folder) == before
    frame: Any = load(folder)
    assert frame[["search", "trial", "config.seed"]].to_numpy().tolist() == [
        ["confirm", 0, 0],
        ["confirm", 1, 1],
    ]
    assert sorted(rays_view(folder, "ray_confirm").index) == sorted(frame["run_id"])
    with pytest.raises(ConfigError, match=f"confirm lists 1 runs twice, e.g. {runs[0].run_id}"):
        sweep("confirm", [runs[0], *runs], launch_of(folder, data))


def test_the_arithmetic_of_a_study_reaches_its_runs_and_records(tmp_path: Path, data: Path) -> None:
    run = base_of(data, optim__epochs=1)
    found = {}
    for precision in ("float32", "bfloat16"):
        compute = Compute(precision=precision)
        launch = replace(launch_of(tmp_path / precision, data), compute=compute)
        sweep("rough", [run], launch)
        record = launch.store.read(run.run_id)
        assert record is not None and Compute(**record.compute) == compute
        found[precision] = launch.store.epochs(run.run_id)[0]["train/objective"]
    assert found["float32"] != found["bfloat16"]
