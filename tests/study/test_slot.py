"""A slot's ranks: one record for all, kept from trial to trial, replaced when they die or hang."""

import os
import signal
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from samples import save_packed
from trials import (
    TWO,
    Bench,
    Strike,
    Trial,
    assert_gone,
    assert_same_result,
    small_cluster,
    stop,
    without_time,
)

from dfpl.data.packed import PackedDataset
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


@pytest.fixture(scope="module")
def trial() -> Iterator[Any]:
    group = placement_group(TWO.of_trial().bundles)  # pyright: ignore
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    actor: Any = ray.remote(Trial)
    yield actor.options(scheduling_strategy=place, num_cpus=0).remote()
    remove_placement_group(group)


@pytest.fixture
def train(trial: Any, data: Path, tmp_path: Path) -> Bench:
    return Bench(trial, data, tmp_path)


def test_two_ranks_find_what_one_process_finds_and_are_warm_at_once(
    train: Bench, data: Path
) -> None:
    train()
    pids = train.pids()
    waits = []
    for seed in range(5):
        record, rows = train(seed=seed, optim__epochs=2)
        waits.append(record.overhead_s)
        alone = fit(train.run(seed=seed, optim__epochs=2), PackedDataset.load(data), Runtime())
        assert (record.state, record.launcher, record.workers) == ("complete", "slot", 2)
        assert [row["epoch"] for row in rows] == [1, 2]
        for row, other in zip(without_time(rows), without_time(alone.rows), strict=True):
            assert row == pytest.approx(other, abs=1e-4)
    assert train.pids() == pids and len(set(pids)) == 3
    assert statistics.median(waits) <= 0.4, waits


def test_a_killed_rank_is_replaced_and_the_result_is_the_same(train: Bench, tmp_path: Path) -> None:
    undisturbed, rows = train()
    first, second, own = train.pids()
    strike = Strike(signal.SIGKILL, second, tmp_path / "struck")
    record, seen = train(strike)
    assert_same_result(record, undisturbed)
    assert without_time(seen) == without_time(rows)
    assert train.pids()[-1] == own
    assert not {first, second} & set(train.pids())
    assert_gone([first, second])


def test_a_hung_rank_is_replaced_after_the_time_set(train: Bench, tmp_path: Path) -> None:
    impatient = replace(TWO, hung_after_s=3.0)
    undisturbed, rows = train(resources=impatient)  # other resources, so a slot of its own
    first, second, _ = train.pids()
    strike = Strike(signal.SIGSTOP, second, tmp_path / "struck")
    record, seen = train(strike, impatient)
    assert_same_result(record, undisturbed)
    assert without_time(seen) == without_time(rows)
    assert_gone([first, second])


def test_a_failing_or_pruned_run_ends_on_all_ranks_and_keeps_them(train: Bench) -> None:
    train()
    pids = train.pids()
    failed, _ = train(optim__learning_rate=1e30)
    assert failed.state == "failed"
    assert failed.reason.startswith("NonFiniteError: the objective is not finite in epoch")
    refused, rows = train(data_hash="another")
    assert refused.reason.startswith("ConfigError: the run is for data") and not rows
    pruned, rows = train(stop)
    assert (pruned.state, pruned.epochs, len(rows)) == ("pruned", 1, 1)
    whole, rows = train()
    assert (whole.state, len(rows)) == ("complete", 4)
    assert train.pids() == pids


def test_ranks_that_fail_each_time_are_given_up(train: Bench, tmp_path: Path) -> None:
    strike = Strike(signal.SIGKILL, 0, tmp_path / "struck", once=False)
    reason, rows = train(strike, attempts=1)
    assert isinstance(reason, str) and reason
    assert [row["epoch"] for row in rows] in ([1], [1, 2])
    record, _ = train(seed=1, optim__epochs=1)
    assert record.state == "complete"


def test_another_number_of_workers_gets_other_ranks(train: Bench) -> None:
    train(optim__epochs=1)
    first, second, _ = train.pids()
    record, _ = train(resources=replace(TWO, workers=1), optim__epochs=1)
    assert record.workers == 1
    assert len(train.pids()) == 2
    assert_gone([first, second])


def test_the_ranks_end_with_the_process_of_their_trial(train: Bench) -> None:
    train(optim__epochs=1)
    *ranks, own = train.pids()
    os.kill(own, signal.SIGKILL)
    assert_gone([*ranks, own])
