"""Fifty trials in one process: each as in a fresh one, nothing left behind, no time lost."""

import gc
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
import torch
from samples import make_run, save_packed
from trials import WarmTrial, assignment_of, small_cluster, stop, timed_trial, without_time

from dfpl.compute import Compute
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import parse_scenarios
from dfpl.fields import FloatRange, Row
from dfpl.study.launch import Launch
from dfpl.study.objective import Objective
from dfpl.study.plan import SearchOptions
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import fit_to_cluster
from dfpl.study.run import search
from dfpl.study.worker import Assignment, train_alone

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and files of ray itself
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TRIALS = 50
FRESH = (24, 49)
"""Trials that are repeated in a fresh process."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with small_cluster():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packed"
    save_packed(folder, num_samples=40)
    return folder


def assignment(number: int, data: Path, folder: Path) -> Assignment:
    """Fifty different runs; every tenth is stopped, and every tenth fails."""
    values = {
        "seed": number,
        "method__alpha": 0.1 * (1 + number % 5),
        "method__num_prototypes": 2 + number % 3,
        "method__encode_missing": ("skip", "zeros")[number % 2],
        "optim__epochs": 2,
        "optim__learning_rate": 1e30 if number % 10 == 5 else 3e-3,
    }
    run = make_run(PackedDataset.load(data), **values)
    found = assignment_of(run, data, folder)
    return replace(found, ask=stop) if number % 10 == 8 else found


def timeless(record: Record) -> Record:
    return replace(record, seconds=0.0, overhead_s=None, finished_at="", study="")


class Fifty(NamedTuple):
    trials: list[tuple[Record, list[Row]]]
    early: dict[str, Any]
    """What ten trials left behind in their process."""
    late: dict[str, Any]


@pytest.fixture(scope="module")
def fifty(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Fifty:
    """The trials of a warm process."""
    actor: Any = ray.remote(num_cpus=1)(WarmTrial)
    warm = actor.remote()
    folder = tmp_path_factory.mktemp("fifty") / "study"
    asked = [assignment(number, data, folder) for number in range(TRIALS)]
    trials = [warm.train.remote(wanted) for wanted in asked[:10]]
    early = warm.left_behind.remote()
    trials += [warm.train.remote(wanted) for wanted in asked[10:]]
    found = Fifty(ray.get(trials), ray.get(early), ray.get(warm.left_behind.remote()))
    ray.kill(warm)
    return found


def test_each_trial_ends_as_it_should(fifty: Fifty) -> None:
    states = [record.state for record, _ in fifty.trials]
    assert [n for n, state in enumerate(states) if state == "failed"] == [5, 15, 25, 35, 45]
    assert [n for n, state in enumerate(states) if state == "pruned"] == [8, 18, 28, 38, 48]
    assert states.count("complete") == 40


def test_a_trial_is_bitwise_as_in_a_fresh_process(fifty: Fifty, data: Path, tmp_path: Path) -> None:
    actor: Any = ray.remote(num_cpus=1)(WarmTrial)
    fresh = {number: actor.remote() for number in FRESH}
    asked = [fresh[n].train.remote(assignment(n, data, tmp_path / "study")) for n in FRESH]
    for number, (record, rows) in zip(FRESH, ray.get(asked), strict=True):
        warm, warm_rows = fifty.trials[number]
        assert timeless(record) == timeless(warm)
        assert without_time(rows) == without_time(warm_rows)
    for each in fresh.values():
        ray.kill(each)


def test_nothing_is_left_behind(fifty: Fifty) -> None:
    for name in ("settings", "caches", "threads"):
        assert fifty.late[name] == fifty.early[name], name
    assert fifty.late["handles"] <= fifty.early["handles"] + 3  # Ray's connections come and go
    assert fifty.late["objects"] <= fifty.early["objects"] * 1.01
    assert fifty.late["resident_mb"] <= fifty.early["resident_mb"] + 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_gpu_memory_is_left_behind(data: Path, tmp_path: Path) -> None:
    train_alone(assignment(0, data, tmp_path / "study"), lambda row: None)
    gc.collect()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for number in range(1, 10):
        train_alone(assignment(number, data, tmp_path / "study"), lambda row: None)
    gc.collect()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) <= before


def test_a_warm_trial_starts_at_once_and_reports_in_no_time(tmp_path: Path, data: Path) -> None:
    launch = Launch(
        store=RecordStore(tmp_path / "study"),
        data=data,
        resources=fit_to_cluster(1, None, 1),
        compute=Compute(),
        checkpoint_every_s=30.0,
    )
    base = make_run(PackedDataset.load(data), optim__epochs=4)
    options = SearchOptions(trials=10, grace=4, transfer=0)
    space = {"method.alpha": FloatRange(0.01, 10.0, log=True)}
    search(base, space, parse_scenarios("both-50"), Objective(), options, launch, timed_trial)
    records = sorted(launch.store.read_all(), key=lambda record: record.trial)
    waits = [record.overhead_s or math.nan for record in records]
    assert statistics.median(waits[1:]) <= 0.5
    names = (launch.store.root / "told").names(".json")
    told = [launch.store.root.read_json(f"told/{name}") for name in names]
    assert len(told) == 10 and all(len(seconds) == 4 for seconds in told)
    quick, *_ = statistics.quantiles(chain(*told))  # what a busy machine adds is not ours
    assert quick <= 0.005
