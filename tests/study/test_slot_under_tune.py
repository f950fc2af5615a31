"""Several workers per trial through Tune: a slot is kept, and Ray Train's workers are replaced."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import ray
from samples import make_run, save_packed
from trials import small_cluster, struck_trial, without_time

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import parse_scenarios
from dfpl.fields import FloatRange
from dfpl.study.launch import Launch
from dfpl.study.objective import Objective
from dfpl.study.plan import SearchOptions
from dfpl.study.records import RecordStore
from dfpl.study.resources import fit_to_cluster
from dfpl.study.run import search, sweep
from dfpl.train import Runtime, fit

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and files of ray itself
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with small_cluster():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packed"
    save_packed(folder)
    return folder


def launch_of(folder: Path, data: Path, launcher: Literal["slot", "train"]) -> Launch:
    return Launch(
        store=RecordStore(folder),
        data=data,
        resources=fit_to_cluster(2, None, None, launcher),
        compute=Compute(),
        checkpoint_every_s=0.0,
    )


def assert_all_cpus_free() -> None:
    """Tune has removed its placement groups, and Ray Train its own."""
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ray.available_resources().get("CPU") == 2


def test_tune_keeps_a_slot_over_trials(tmp_path: Path, data: Path) -> None:
    launch = launch_of(tmp_path / "study", data, "slot")
    packed = PackedDataset.load(data)
    runs = [make_run(packed, optim__epochs=1, seed=seed) for seed in range(3)]
    sweep("confirm", runs, launch)
    records = sorted(launch.store.read_all(), key=lambda record: record.trial)
    assert [record.state for record in records] == ["complete"] * 3
    assert {(record.launcher, record.workers) for record in records} == {("slot", 2)}
    assert_all_cpus_free()


def test_a_killed_worker_of_ray_train_is_replaced_too(tmp_path: Path, data: Path) -> None:
    launch = launch_of(tmp_path / "study", data, "train")
    base = make_run(PackedDataset.load(data), optim__epochs=4)
    options = SearchOptions(trials=1, grace=4, transfer=0)
    space = {"method.alpha": FloatRange(0.01, 10.0, log=True)}
    search(base, space, parse_scenarios("both-50"), Objective(), options, launch, struck_trial)
    assert (tmp_path / "study/struck").exists()
    (record,) = launch.store.read_all()
    assert (record.state, record.launcher, record.workers) == ("complete", "train", 2)
    run = RunConfig.from_dict(record.config)
    alone = fit(run, PackedDataset.load(data), Runtime())
    found = launch.store.epochs(record.run_id)
    for row, other in zip(without_time(found), without_time(alone.rows), strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-4)
    assert_all_cpus_free()
