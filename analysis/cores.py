"""A function of each item of a list; on several cores where that takes long."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from dfpl.data.reading import progress
from dfpl.fields import ConfigError

SOON_S, LONG_S = 3.0, 5.0
"""After so long others are asked to help, if the rest would take longer than that."""
MOST = 8
"""Processes; with runs of DVM-CAR's size each may hold two gigabytes."""


def each(function: Callable[[Any], Any], items: Sequence[Any], what: str) -> list[Any]:
    """What the function says of each item, in their order; it may travel to other processes.

    Tells on stderr how far it is once others help. Raises ConfigError where one of them is killed.
    """
    done, start = [], time.monotonic()
    for item in items:
        spent = time.monotonic() - start
        if done and spent > SOON_S and spent / len(done) * (len(items) - len(done)) > LONG_S:
            break
        done.append(function(item))
    rest = items[len(done) :]
    if not rest:
        return done
    workers = min(MOST, joblib.cpu_count(), len(rest))
    jobs = (joblib.delayed(function)(item) for item in rest)
    try:
        with progress(what, len(items), len(done)) as advance:
            for found in joblib.Parallel(n_jobs=workers, return_as="generator")(jobs):
                done.append(found)
                advance(1)
    except TerminatedWorkerError:
        raise ConfigError(
            f"one of {workers} processes that went through the {what} was killed, perhaps for want "
            "of memory; LOKY_MAX_CPU_COUNT=1 in the environment makes it one at a time"
        ) from None
    return done
