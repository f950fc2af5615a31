"""The contract that every method keeps on several workers: they compute what one process does."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import workers
from samples import MIXED, SCHEMA, SMALL, make_batch, make_packed, make_run
from torch import nn

from dfpl import method as methods
from dfpl.data.batch import Batch
from dfpl.data.loader import Loader, View
from dfpl.distributed import world_size
from dfpl.evaluate import predict_split
from dfpl.method import Method
from dfpl.train import Runtime, fit

NAMES = methods.names()
AVAILABLE = [*MIXED, (1, 0), (1, 1), (0, 1)]
ROWS = list(range(len(AVAILABLE)))  # 11: neither 2 nor 4 workers can share them evenly
SHARDINGS = [
    "dealt as the loader does",
    "unequal availability",
    "a rank without a pair",
    "a rank with one class only",
    "a rank without rows",
]
PACKED = make_packed(30)
TRAININGS = {"zeros": 7, "skip": 3}
"""How the absent is encoded, and the batch size: the 16 training samples make batches of 6 and 5,
or of 3 and 2, which leave one or two of four workers without a row."""


def small(name: str, missing: str = "zeros") -> dict[str, Any]:
    """The config of a small method that draws no random numbers in training."""
    still = {"dropout": 0.0, "drop": "none", "sampling": False}
    values = {**SMALL, "name": name, "encode_missing": missing, **still}
    return {k: v for k, v in values.items() if k in methods.load(name).Config.model_fields}


def make_method(name: str) -> Method:
    """A method in which no parameter is 0, as some are when new."""
    torch.manual_seed(0)
    method = methods.build(methods.load(name).Config.from_dict(small(name)), SCHEMA)
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
    values = {"method": small(name, missing), "optim__batch_size": TRAININGS[missing]}
    rows = fit(make_run(PACKED, **values), PACKED, Runtime(wrap=exact)).rows
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def predict(name: str) -> dict[str, Any]:
    """Ids and logits in the three states of the test rows, NaN where a state is impossible."""
    statistics = View.of(PACKED, "train").statistics()
    view = View.of(PACKED, "test", make_run(PACKED).scenario)
    loader = Loader(view, statistics, 4, torch.device("cpu"))
    found = predict_split(make_method(name), loader, "test")
    logits = {state: torch.from_numpy(values) for state, values in found.logits.items()}
    return {"ids": found.ids.tolist(), "logits": logits}


@cache
def step_alone(name: str) -> workers.Found:
    return workers.step(make_method(name), make_batch(AVAILABLE), workers.alone)


def worker(me: int, folder: Path) -> None:
    found: dict[str, Any] = {"step": {}, "train": {}, "predict": {}}
    for name in NAMES:
        for sharding in SHARDINGS:
            shard = workers.take(make_batch(AVAILABLE), shards(sharding, world_size())[me])
            method = make_method(name)
            found["step"][f"{name}/{sharding}"] = workers.step(method, shard, workers.together)
        for missing in TRAININGS:
            found["train"][f"{name}/{missing}"] = train(name, missing)
        found["predict"][name] = predict(name)
    torch.save(found, folder / f"{me}.pt")


@pytest.fixture(scope="module", params=[2, 4])
def everyone(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[list[Any]]:
    """What each of 2, then of 4 workers found: all methods in one start, as starting is slow."""
    folder: Path = tmp_path_factory.mktemp("workers")
    workers.start(worker, request.param, folder)
    yield [torch.load(folder / f"{me}.pt") for me in range(request.param)]


@pytest.mark.parametrize("sharding", SHARDINGS)
@pytest.mark.parametrize("name", NAMES)
def test_workers_find_the_terms_gradients_and_statistics_of_one(
    everyone: list[Any], name: str, sharding: str
) -> None:
    for found in everyone:
        for part, expected in step_alone(name).items():
            workers.assert_same(found["step"][f"{name}/{sharding}"][part], expected, 1e-5)


@pytest.mark.parametrize("missing", TRAININGS)
@pytest.mark.parametrize("name", NAMES)
def test_workers_train_to_the_numbers_of_one(everyone: list[Any], name: str, missing: str) -> None:
    alone = train(name, missing)
    for found in everyone:
        for row, expected in zip(found["train"][f"{name}/{missing}"], alone, strict=True):
            assert row == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_workers_predict_every_row_once_in_order(everyone: list[Any], name: str) -> None:
    alone = predict(name)
    assert alone["ids"] == PACKED.ids(PACKED.rows("test"))
    for found in everyone:
        assert found["predict"][name]["ids"] == alone["ids"]
        for state, logits in alone["logits"].items():
            torch.testing.assert_close(
                found["predict"][name]["logits"][state], logits, rtol=0, atol=1e-6, equal_nan=True
            )
