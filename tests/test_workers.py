"""The contract that every method keeps on several workers: they compute what one process does."""

from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import workers
from samples import (
    DRAWS,
    MIXED,
    make_batch,
    make_config,
    make_method,
    make_packed,
    make_run,
    stages,
)
from torch import nn

from dfpl import method as methods
from dfpl.data.batch import Batch
from dfpl.data.loader import Loader, View
from dfpl.distributed import world_size
from dfpl.evaluate import predict_split
from dfpl.method import Method
from dfpl.train import Runtime, fit

Case = tuple[str, int]
"""A method and the number of a stage of its training."""
AVAILABLE = [*MIXED, (1, 0), (1, 1), (0, 1)]
ROWS = list(range(len(AVAILABLE)))  # 11: no number of workers can share them evenly
SHARDINGS = [
    "dealt as the loader does",
    "unequal availability",
    "a rank without a pair",
    "a rank with one class only",
    "a rank without rows",
]
PACKED = make_packed(30)
NAMES = methods.names()
TRAININGS = {"zeros": 7, "skip": 3}
"""How the absent is encoded, and the batch size: the 16 training samples make batches of 6 and 5,
or of 3 and 2, which leave one of three workers without a row."""


STILL: dict[str, Any] = {"dropout": 0.0, "drop": "none", "sampling": False}
"""Fields of a method that draws no random numbers in training."""


def of_case(case: Case) -> Method:
    """A method in a stage of training, in which no parameter is 0, as some are when new."""
    method = make_method(*case, **STILL)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return method


def shards(sharding: str, workers: int) -> list[list[int]]:
    """The rows of each rank; what is special about a sharding is true of rank 0."""
    match sharding:
        case "dealt as the loader does":
            return [ROWS[me::workers] for me in range(workers)]
        case "unequal availability":
            parts = np.array_split(sorted(ROWS, key=AVAILABLE.__getitem__), workers)
            return [part.tolist() for part in parts]
        case "a rank without a pair":
            first = [row for row in ROWS if AVAILABLE[row] != (1, 1)]
        case "a rank with one class only":
            first = ROWS[::3]
        case _:
            first = []
    others = [row for row in ROWS if row not in first]
    return [first, *(others[me :: workers - 1] for me in range(workers - 1))]


def exact(method: nn.Module) -> nn.Module:
    """The method in float64, and in the distributed wrapper if there are several workers."""

    def in_float64(_: nn.Module, inputs: tuple[Batch]) -> tuple[Batch]:
        batch = inputs[0]
        return (batch._replace(image=batch.image.double(), numeric=batch.numeric.double()),)

    method.double().register_forward_pre_hook(in_float64)
    return workers.together(method) if world_size() > 1 else method


def train(name: str, missing: str) -> list[dict[str, Any]]:
    """The rows of a short training.

    In float64: in float32 ReLU and Adam's first steps, which have the sign of a gradient however
    small, make a difference of 1e-7 in the weights one of 1e-2 in the rows, in one process.
    """
    method = make_config(name, encode_missing=missing, **STILL).to_dict()
    run = make_run(PACKED, method=method, optim__batch_size=TRAININGS[missing])
    rows = fit(run, PACKED, Runtime(wrap=exact)).rows
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def predict(name: str) -> dict[str, Any]:
    """Ids and logits in the three states of the test rows, NaN where a state is impossible."""
    statistics = View.of(PACKED, "train").statistics()
    view = View.of(PACKED, "test", make_run(PACKED).scenario)
    loader = Loader(view, statistics, 4, torch.device("cpu"))
    found = predict_split(of_case(stages(name)[-1]), loader, "test")
    logits = {state: torch.from_numpy(values) for state, values in found.logits.items()}
    return {"ids": found.ids.tolist(), "logits": logits}


@cache
def step_alone(case: Case) -> workers.Found:
    return workers.step(of_case(case), make_batch(AVAILABLE), workers.alone)


@cache
def train_alone(name: str, missing: str) -> list[dict[str, Any]]:
    return train(name, missing)


def worker(name: str, me: int, folder: Path) -> None:
    found: dict[str, Any] = {"predict": predict(name)}
    for case in stages(name):
        for sharding in SHARDINGS:
            shard = workers.take(make_batch(AVAILABLE), shards(sharding, world_size())[me])
            step = workers.step(of_case(case), shard, workers.together)
            found[f"step {case}, {sharding}"] = step
    for missing in TRAININGS:
        found[f"train {missing}"] = train(name, missing)
    torch.save(found, folder / f"{me}.pt")


class Together(NamedTuple):
    name: str
    found: list[dict[str, Any]]
    """Of each worker."""


@pytest.fixture(
    scope="module",
    params=[("dfpl", 2), ("dfpl", 4), *((name, 3) for name in NAMES if name != "dfpl")],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def together(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Together:
    """What each worker found of a method, in one start."""
    name, count = request.param
    folder: Path = tmp_path_factory.mktemp("workers")
    workers.start(partial(worker, name), count, folder)
    return Together(name, [torch.load(folder / f"{me}.pt") for me in range(count)])


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_workers_find_the_terms_gradients_and_statistics_of_one(
    together: Together, sharding: str
) -> None:
    """Where places in the global batch have random numbers: if it is dealt as the loader does."""
    for case in stages(together.name):
        if case in DRAWS and sharding != SHARDINGS[0]:
            continue
        for part, expected in step_alone(case).items():
            for found in together.found:
                workers.assert_same(found[f"step {case}, {sharding}"][part], expected, 1e-5)


@pytest.mark.parametrize("missing", TRAININGS)
def test_workers_train_to_the_numbers_of_one(together: Together, missing: str) -> None:
    """In two epochs: a method with two stages has one of each."""
    alone = train_alone(together.name, missing)
    for found in together.found:
        for row, expected in zip(found[f"train {missing}"], alone, strict=True):
            assert row == pytest.approx(expected, rel=1e-8, abs=1e-8, nan_ok=True)


def test_workers_predict_every_row_once_in_order(together: Together) -> None:
    alone = predict(together.name)
    assert alone["ids"] == PACKED.ids(PACKED.rows("test"))
    for found in together.found:
        assert found["predict"]["ids"] == alone["ids"]
        for state, logits in alone["logits"].items():
            torch.testing.assert_close(
                found["predict"]["logits"][state], logits, rtol=1e-5, atol=1e-6, equal_nan=True
            )
