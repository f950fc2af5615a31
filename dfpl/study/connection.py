"""The Ray cluster of a study: joining or starting it, and reading raw files on its machines."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from dfpl.data.reading import Spread
from dfpl.fields import ConfigError

RAY_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # one report of a worker per interval
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
PER_CPU = 2
"""Tasks that are handed out per core of the cluster, so that none waits for the driver."""


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names, as it does in a Ray job; else start one for this
    process alone, on loopback. (Ray's own guess would be the last cluster started here, dead or
    alive.)"""
    if ray.is_initialized():
        return
    alone: dict[str, Any] = {"address": "local", "_node_ip_address": "127.0.0.1"}
    address = os.environ.get("RAY_ADDRESS", "")
    joined: dict[str, Any] = {"address": address}
    try:
        ray.init(
            **(joined if address else alone),
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": RAY_ENVIRONMENT},
        )
    except ConnectionError as error:
        raise ConfigError(f"no Ray cluster could be joined or started: {error}") from None


def readers() -> Spread | None:
    """What spreads the reading of files over the cluster that this process is part of, or None
    where there is one machine alone: processes are faster there."""
    if not os.environ.get("RAY_ADDRESS"):
        return None
    connect()
    several = sum(node["Alive"] for node in ray.nodes()) > 1
    return spread if several else None


def spread(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Call `function` with each argument in a task of one core; yield (position, result) as they
    come. Few are under way at a time, so that results do not pile up."""
    task: Any = ray.remote(num_cpus=1)(_call)
    called = ray.put(function)
    room = PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    under_way: dict[Any, int] = {}
    waiting = iter(enumerate(arguments))
    while True:
        for place, argument in waiting:
            under_way[task.remote(called, argument)] = place
            if len(under_way) >= room:
                break
        if not under_way:
            return
        (done, *_), _ = ray.wait(list(under_way))
        yield under_way.pop(done), ray.get(done)


def _call(function: Callable[[Any], Any], argument: Any) -> Any:
    return function(argument)
