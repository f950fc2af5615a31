"""Random numbers of a step: their distribution, what they depend on, and on what they do not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import workers
from samples import SMALL, make_packed, make_run

from dfpl import method as methods
from dfpl.config import RunConfig
from dfpl.data.augment import _splitmix
from dfpl.distributed import world_size
from dfpl.fields import Row
from dfpl.noise import _GOLDEN, StepNoise, _mix, drop_modality
from dfpl.storage import Storage
from dfpl.train import EndedError, Runtime, fit

NAMES = ["dmrnet", "im_fuse"]
"""The methods that draw random numbers in training."""
PACKED = make_packed(24)


def noise(seed: int = 0) -> StepNoise:
    torch.manual_seed(seed)
    return StepNoise()


def test_a_round_is_splitmix64() -> None:
    numbers = np.arange(9, dtype=np.uint64) * np.uint64(2**61 + 12345)
    with np.errstate(over="ignore"):
        expected = _splitmix(numbers + np.uint64(_GOLDEN % 2**64))
    assert (
        _mix(torch.from_numpy(numbers.view(np.int64))).tolist() == expected.view(np.int64).tolist()
    )


def test_uniform_numbers_are_uniform_and_independent() -> None:
    found = noise().uniform(2000, (50,), 0).double().numpy()
    assert found.min() > 0 and found.max() < 1
    counts = np.histogram(found, bins=20, range=(0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # 99.9 % point of chi square, 19
    for first, second in ((found[1:], found[:-1]), (found[:, 1:], found[:, :-1])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 3.3 / 1e5**0.5


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    found = noise().normal(2000, 50, 0).double()
    assert found.mean().item() == pytest.approx(0, abs=0.01)
    assert found.var().item() == pytest.approx(1, abs=0.015)
    assert (found**4).mean().item() == pytest.approx(3, abs=0.1)


def test_a_step_repeats_itself_and_no_other() -> None:
    first = noise()
    found = first.uniform(4, (3,), 0)
    assert found.equal(first.uniform(4, (3,), 0))
    assert not found.equal(first.uniform(4, (3,), 1))
    assert not found.equal(noise(1).uniform(4, (3,), 0))
    assert found[:2].equal(first.uniform(2, (3,), 0))  # whatever the size of the batch
    first.advance()
    other = first.uniform(4, (3,), 0)
    assert not (found == other).any()
    second = noise(1)
    second.load_state_dict(first.state_dict())
    assert other.equal(second.uniform(4, (3,), 0))


def test_dropping_reaches_each_state_equally_often_and_brings_nothing_back() -> None:
    available = torch.ones(9000, 2, dtype=torch.bool)
    left = drop_modality(available, noise().uniform(9000, (1,), 0)[:, 0], torch.ones(3).bool())
    image, table = left.unbind(dim=1)
    for count in ((image & table).sum(), (image & ~table).sum(), (~image & table).sum()):
        assert abs(int(count) - 3000) < 3 * (9000 * 2 / 9) ** 0.5
    some = torch.tensor([[True, False], [False, True]]).repeat(50, 1)
    assert some.equal(drop_modality(some, torch.rand(100), torch.ones(3).bool()))


def test_dropping_by_hand() -> None:
    complete, uniform = torch.ones(4, 2, dtype=torch.bool), torch.tensor([0.01, 0.49, 0.51, 0.99])
    for states, expected in {
        (True, True, False): [[1, 1], [1, 1], [1, 0], [1, 0]],
        (True, False, True): [[1, 1], [1, 1], [0, 1], [0, 1]],
        (False, True, True): [[1, 0], [1, 0], [0, 1], [0, 1]],
        (True, False, False): [[1, 1]] * 4,
    }.items():
        assert drop_modality(complete, uniform, torch.tensor(states)).int().tolist() == expected


def make(name: str) -> RunConfig:
    config = methods.load(name).Config
    fields = {**SMALL, "name": name, "tabular_depth": 1, "hard_from": 1}
    small = {field: value for field, value in fields.items() if field in config.model_fields}
    run = make_run(PACKED, optim__batch_size=5, optim__epochs=3)
    return RunConfig.from_dict({**run.to_dict(), "method": small})


def exact(method: torch.nn.Module) -> torch.nn.Module:
    """In float64, and distributed where there are several workers."""

    def in_float64(_: Any, inputs: Any) -> Any:
        batch = inputs[0]
        return (batch._replace(image=batch.image.double(), numeric=batch.numeric.double()),)

    method.double().register_forward_pre_hook(in_float64)
    return workers.together(method) if world_size() > 1 else method


def train(name: str) -> list[dict[str, Any]]:
    """A short training with all that the method draws."""
    return without_seconds(fit(make(name), PACKED, Runtime(wrap=exact)).rows)


def without_seconds(rows: list[Any]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def worker(me: int, folder: Path) -> None:
    torch.save({name: train(name) for name in NAMES}, folder / f"{me}.pt")


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: Any) -> Iterator[list[Any]]:
    folder: Path = tmp_path_factory.mktemp("workers")
    workers.start(worker, 2, folder)
    yield [torch.load(folder / f"{me}.pt") for me in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_workers_draw_what_one_process_draws(everyone: list[Any], name: str) -> None:
    alone = train(name)
    for found in everyone:
        for row, expected in zip(found[name], alone, strict=True):
            assert row == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_draws_what_it_would_have_drawn(name: str, tmp_path: Path) -> None:
    def end(row: Row) -> bool:
        if row["epoch"] == 2:
            raise EndedError
        return True

    run, folder = make(name), Storage(tmp_path)
    with pytest.raises(EndedError):
        fit(run, PACKED, Runtime(report=end, checkpoints=folder))
    found, whole = (fit(run, PACKED, Runtime(checkpoints=x)) for x in (folder, None))
    assert without_seconds(found.rows) == without_seconds(whole.rows)
