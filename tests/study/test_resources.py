"""How many trials fit a cluster, by hand, on clusters that are only claimed."""

from dataclasses import replace
from typing import Any

import pytest
import ray

from dfpl.fields import ConfigError
from dfpl.study.resources import Resources, fit_to_cluster


@pytest.mark.parametrize(
    ("cluster", "wish", "concurrent", "gpus", "launcher"),
    [
        ({"CPU": 2.0}, (1, None, None), 2, 0.0, "inline"),
        ({"CPU": 8.0}, (1, None, 3), 3, 0.0, "inline"),
        ({"CPU": 8.0}, (1, None, 99), 8, 0.0, "inline"),
        ({"CPU": 8.0}, (3, None, None), 2, 0.0, "slot"),
        ({"CPU": 32.0, "GPU": 4.0}, (1, None, None), 4, 1.0, "inline"),
        ({"CPU": 3.0, "GPU": 4.0}, (1, None, None), 3, 1.0, "inline"),
        ({"CPU": 32.0, "GPU": 4.0}, (1, 0.25, None), 16, 0.25, "inline"),
        ({"CPU": 32.0, "GPU": 1.0}, (1, 0.1, None), 10, 0.1, "inline"),
        ({"CPU": 32.0, "GPU": 2.0}, (1, 0.4, None), 4, 0.4, "inline"),  # no share lies on two GPUs
        ({"CPU": 32.0, "GPU": 4.0}, (2, None, None), 2, 1.0, "slot"),
        ({"CPU": 32.0, "GPU": 4.0}, (2, 0.5, None), 4, 0.5, "slot"),
        ({"CPU": 32.0, "GPU": 8.0}, (2, 2.0, None), 2, 2.0, "slot"),
        ({"CPU": 32.0, "GPU": 4.0}, (1, 0.0, None), 32, 0.0, "inline"),
    ],
)
def test_the_plan_of_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
    cluster: dict[str, float],
    wish: tuple[int, float | None, int | None],
    concurrent: int,
    gpus: float,
    launcher: str,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: cluster)
    plan = fit_to_cluster(*wish)
    assert (plan.concurrent, plan.gpus_per_worker, plan.launcher) == (concurrent, gpus, launcher)
    assert plan.workers == wish[0]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ((3, None, None), "one trial needs 3 CPU and 0 GPU, but the cluster has 2 CPU and 0 GPU"),
        ((1, 1.0, None), "one trial needs 1 CPU and 1 GPU, but the cluster has 2 CPU and 0 GPU"),
        ((0, None, None), "--workers must be at least 1, got 0"),
        ((1, None, 0), "--concurrent must be at least 1, got 0"),
        ((1, -0.5, None), "--gpus-per-worker must be 0 or more, got -0.5"),
        ((1, 1.5, None), "--gpus-per-worker above 1 must be a whole number, got 1.5"),
    ],
)
def test_what_cannot_be_planned_says_why(
    monkeypatch: pytest.MonkeyPatch, wish: tuple[int, float | None, int | None], message: str
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    with pytest.raises(ConfigError, match=message):
        fit_to_cluster(*wish)


def test_the_launcher_wished_for_is_taken_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    assert fit_to_cluster(2, None, None, "train").launcher == "train"
    assert fit_to_cluster(1, None, None, "slot").launcher == "slot"
    with pytest.raises(ConfigError, match="--launcher inline is for one worker, not for 2"):
        fit_to_cluster(2, None, None, "inline")


def test_a_driver_of_workers_takes_no_cpu_from_them() -> None:
    several = Resources(workers=2, gpus_per_worker=1.0, concurrent=1, launcher="train")
    assert several.of_trial() == {"memory": 1e6}
    assert several.per_worker == {"CPU": 1, "GPU": 1.0}
    alone = Resources(workers=1, gpus_per_worker=0.0, concurrent=1)
    assert alone.of_trial() == {"CPU": 1}
    assert str(alone) == "1 trials at once, each with 1 worker(s) of 1 CPU, launcher inline"


def test_the_ranks_of_a_slot_lie_in_the_placement_group_of_their_trial() -> None:
    resources = Resources(workers=2, gpus_per_worker=0.5, concurrent=1, launcher="slot")
    wanted: Any = resources.of_trial()
    assert wanted.bundles == [{"memory": 1e6}, {"CPU": 1, "GPU": 0.5}, {"CPU": 1, "GPU": 0.5}]
    assert (resources.backend, replace(resources, gpus_per_worker=1.0).backend) == ("gloo", "nccl")
