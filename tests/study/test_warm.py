"""Fifty trials in one process: each as in a fresh one, nothing left behind, no time lost."""

import gc
import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from samples import make_run, save_packed
from trials import WarmTrial, assignment_of, small_cluster, stop, timed_trial, without_time

from dfpl.compute import Compute
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import parse_scenarios
from dfpl.fields import FloatRange
from dfpl.study import run as driver
from dfpl.study.launch import Launch
from dfpl.study.objective import Objective
from dfpl.study.plan import SearchOptions
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import fit_to_cluster
from dfpl.study.worker import Assignment, train_alone

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and files of ray itself
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TRIALS = 50
FRESH = (1, 24, 49)
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


@pytest.fixture(scope="module")
def fifty(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, Any, Any]]:
    """Record, rows and what was left behind of each trial of a warm process."""
    actor: Any = ray.remote(num_cpus=1)(WarmTrial)
    warm = actor.remote()
    folder = tmp_path_factory.mktemp("fifty") / "study"
    found = ray.get([warm.train.remote(assignment(n, data, folder)) for n in range(TRIALS)])
    ray.kill(warm)
    return found


def test_each_trial_ends_as_it_should(fifty: list[tuple[Any, Any, Any]]) -> None:
    states = [record.state for record, _, _ in fifty]
    assert [n for n, state in enumerate(states) if state == "failed"] == [5, 15, 25, 35, 45]
    assert [n for n, state in enumerate(states) if state == "pruned"] == [8, 18, 28, 38, 48]
    assert states.count("complete") == 40


def test_a_trial_is_bitwise_as_in_a_fresh_process(
    fifty: list[tuple[Any, Any, Any]], data: Path, tmp_path: Path
) -> None:
    actor: Any = ray.remote(num_cpus=1)(WarmTrial)
    for number in FRESH:
        fresh = actor.remote()
        record, rows, _ = ray.get(fresh.train.remote(assignment(number, data, tmp_path / "study")))
        ray.kill(fresh)
        warm, warm_rows, _ = fifty[number]
        assert timeless(record) == timeless(warm)
        assert without_time(rows) == without_time(warm_rows)


def test_nothing_is_left_behind(fifty: list[tuple[Any, Any, Any]]) -> None:
    early, late = fifty[9][2], fifty[-1][2]
    for name in ("settings", "caches", "handles", "threads"):
        assert late[name] == early[name], name
    assert late["objects"] <= early["objects"] * 1.02
    assert late["resident_mb"] <= early["resident_mb"] + 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_gpu_memory_is_left_behind(data: Path, tmp_path: Path) -> None:
    train_alone(assignment(0, data, tmp_path / "study"), lambda row: None)
    gc.collect()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for number in range(1, 10):
        train_alone(assignment(number, data, tmp_path / "study"), lambda row: None)
    gc.collect()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) <= before


def test_a_warm_trial_starts_at_once_and_reports_in_no_time(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(
        store=RecordStore(tmp_path / "study"),
        data=data,
        resources=fit_to_cluster(1, None, 1),
        compute=Compute(),
        checkpoint_every_s=30.0,
    )
    monkeypatch.setattr(driver, "tune_trial", timed_trial)
    base = make_run(PackedDataset.load(data), optim__epochs=4)
    options = SearchOptions(trials=10, grace=4, transfer=0)
    space = {"method.alpha": FloatRange(0.01, 10.0, log=True)}
    driver.search(base, space, parse_scenarios("both-50"), Objective(), options, launch)
    records = sorted(launch.store.read_all(), key=lambda record: record.trial)
    waits = [record.overhead_s or math.nan for record in records]
    assert statistics.median(waits[1:]) <= 0.5, waits
    names = (launch.store.root / "told").names(".json")
    told = [launch.store.root.read_json(f"told/{name}") for name in names]
    assert len(told) == 10 and all(len(seconds) == 4 for seconds in told)
    assert statistics.median(chain(*told)) <= 0.005, told
