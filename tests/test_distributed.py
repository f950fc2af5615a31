"""One batch, however many workers: the same terms, gradients and statistics as in one process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import workers
from samples import MIXED, SCHEMA, SMALL, make_batch
from torch import Tensor, nn

from dfpl.distributed import (
    GlobalBatchNorm,
    global_max,
    global_moments,
    global_rows,
    global_sum,
    rank,
    use_global_statistics,
    world_size,
)
from dfpl.model import Config, Model

# rows of MIXED held by each rank; its labels are 0, 1, 2, 0, 1, 2, 0, 1
SHARDS: dict[int, dict[str, list[list[int]]]] = {
    2: {
        "a rank without a pair": [[0, 3, 6, 7, 5], [1, 2, 4]],
        "a rank without rows": [[], list(range(8))],
    },
    3: {
        "each rank one class": [[0, 3, 6], [1, 4, 7], [2, 5]],
        "no image, no table, no rows": [[2, 4], [1, 5, 0, 3, 6, 7], []],
    },
}
GLOBAL = {
    "mixed": MIXED,
    "no image anywhere": [(0, 1)] * 8,
    "one pair": [(1, 1), (1, 0), *MIXED[1:3] * 3],
}
CASES = [
    ({"encode_missing": "zeros"}, "mixed", torch.float32),
    ({"encode_missing": "skip", "task_loss": "ce"}, "mixed", torch.float64),
    ({"encode_missing": "skip"}, "no image anywhere", torch.float64),
    ({"encode_missing": "zeros"}, "one pair", torch.float64),
]
FAR = 1000 + torch.randn(8, 3, 4, 6, generator=torch.Generator().manual_seed(2))
"""Rows whose values are far from 0: a thousand of their standard deviations."""
BATCH = torch.randn(7, 2, generator=torch.Generator().manual_seed(3))
NEAR = (FAR - 1000).bfloat16()


def step(case: int, rows: list[int], wrap: Callable[[Any], Any]) -> workers.Found:
    """Terms, gradients and buffers after one backward pass on these rows of the case's batch."""
    values, name, dtype = CASES[case]
    torch.manual_seed(0)
    model = Model(Config.from_dict({**SMALL, **values}), SCHEMA).to(dtype)
    assert model.gate is not None
    nn.init.normal_(model.gate)
    whole = make_batch(GLOBAL[name])
    whole = whole._replace(image=whole.image.to(dtype), numeric=whole.numeric.to(dtype))
    return workers.step(model, workers.take(whole, rows), wrap)


def normalise(rows: list[int], make: Callable[[int], nn.Module]) -> dict[str, Tensor]:
    """Two training steps and one in eval mode of a normalisation, with its gradients."""
    torch.manual_seed(1)
    norm = make(3).double()
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    values = (5 + 3 * torch.randn(2, 8, 3, 4, 2, dtype=torch.float64))[:, rows]
    weights = torch.randn(8, 3, 4, 2, dtype=torch.float64)[rows]
    values.requires_grad_()
    for value in values:
        (norm(value) * weights).sum().backward()
    gradients = [torch.zeros(3).double() if p.grad is None else p.grad for p in norm.parameters()]
    if world_size() > 1:
        for gradient in gradients:
            dist.all_reduce(gradient)
    assert values.grad is not None and norm.running_mean is not None
    assert norm.running_var is not None
    norm.eval()
    return {
        "input": values.grad,
        "weight": gradients[0],
        "bias": gradients[1],
        "running_mean": norm.running_mean,
        "running_var": norm.running_var,
        "eval": norm(values[0]).detach(),
    }


def far_from_zero(rows: list[int]) -> Tensor:
    """Variance of float32 values whose mean is 1000 times their deviation."""
    return global_moments(FAR[rows]).variance


def in_bfloat16(rows: list[int]) -> dict[str, Tensor]:
    """Output, gradient and statistics of bfloat16 values with the channels last in memory."""
    norm = GlobalBatchNorm(3)
    values = NEAR[rows].to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = norm(values)
    (output * NEAR[rows].square()).sum().backward()
    assert values.grad is not None and norm.running_mean is not None
    return {"output": output.detach(), "gradient": values.grad, "mean": norm.running_mean}


def without_any_row() -> dict[str, Tensor]:
    norm = GlobalBatchNorm(3)
    output = norm(torch.zeros(0, 3, 4, 2))
    output.sum().backward()
    gradients = {f"{n} gradient": p.grad for n, p in norm.named_parameters() if p.grad is not None}
    return {"output": output.detach(), **dict(norm.named_buffers()), **gradients}


def exchanged_and_kept(rows: list[int]) -> dict[str, Any]:
    """Calls to other workers, and sizes of what is kept for the backward pass."""
    calls: list[str] = []

    def spy(name: str) -> Any:
        called = getattr(dist, name)
        return lambda *args: (calls.append(name), called(*args))[1]

    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_reduce", "all_gather", "broadcast"):
            patch.setattr(dist, name, spy(name))
        output = GlobalBatchNorm(3)(FAR[rows].requires_grad_())
        kept = [saved.numel() for saved in output.grad_fn.saved_tensors]
        output.sum().backward()
    return {"calls": calls, "kept": sorted(kept)}


def worker(me: int, folder: Path) -> None:
    assert rank() == me
    found: dict[str, Any] = {"sums": sums(me), "rows": dealt(me), "norm": {}, "step": {}}
    for name, shards in SHARDS[world_size()].items():
        rows = shards[me]
        found["norm"][name] = {
            "same": normalise(rows, GlobalBatchNorm),
            "far": far_from_zero(rows),
            "bfloat16": in_bfloat16(rows),
            "traffic": exchanged_and_kept(rows),
        }
        for case in range(len(CASES)):
            found["step"][f"{name}/{case}"] = step(case, rows, workers.together)
    found["empty"] = without_any_row()
    torch.save(found, folder / f"{me}.pt")


def sums(me: int) -> dict[str, Tensor]:
    value = torch.tensor([1.0 + me, 10.0], requires_grad=True)
    total = global_sum(value)
    (total * torch.tensor([1.0, me])).sum().backward()
    assert value.grad is not None
    one_sided = torch.tensor([5.0]) if me == 1 else torch.zeros(0)
    return {"total": total.detach(), "gradient": value.grad, "max": global_max(one_sided)}


def dealt(me: int) -> dict[str, Tensor]:
    """What a worker gets of a dealt batch, and the gradient of sum_i i |row_i|^2 of its own."""
    own = BATCH[me :: world_size()].clone().requires_grad_()
    gathered = global_rows(own)
    (torch.arange(7.0) * gathered.square().sum(dim=1)).sum().backward()
    assert own.grad is not None
    return {"gathered": gathered.detach(), "gradient": own.grad}


@pytest.fixture(scope="module", params=[2, 3])
def everyone(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[list[Any]]:
    """What each of 2, then of 3 workers found: all cases in one start, as starting is slow."""
    folder: Path = tmp_path_factory.mktemp("workers")
    workers.start(worker, request.param, folder)
    yield [torch.load(folder / f"{me}.pt") for me in range(request.param)]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_workers_find_the_terms_and_gradients_of_one(everyone: list[Any], case: int) -> None:
    expected = step(case, list(range(8)), workers.alone)
    tolerance = 1e-5 if CASES[case][2] is torch.float32 else 1e-10
    for name in SHARDS[len(everyone)]:
        for found in everyone:
            for part, values in expected.items():
                workers.assert_same(found["step"][f"{name}/{case}"][part], values, tolerance)


def test_rows_of_all_workers_come_in_the_order_of_the_batch(everyone: list[Any]) -> None:
    for me, found in enumerate(everyone):
        assert torch.equal(found["rows"]["gathered"], BATCH)
        # every worker has the whole loss, and DistributedDataParallel takes their mean
        wanted = 2 * torch.arange(7.0)[:, None] * BATCH * len(everyone)
        torch.testing.assert_close(found["rows"]["gradient"], wanted[me :: len(everyone)])


def shards_of(everyone: list[Any]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """What each worker found with the normalisation, and its rows."""
    for name, shards in SHARDS[len(everyone)].items():
        for found, rows in zip(everyone, shards, strict=True):
            yield found["norm"][name], rows


def test_normalisation_over_workers_is_that_of_one(everyone: list[Any]) -> None:
    expected = normalise(list(range(8)), nn.BatchNorm2d)
    for found, rows in shards_of(everyone):
        own = {"input": expected["input"][:, rows], "eval": expected["eval"][rows]}
        workers.assert_same(found["same"], {**expected, **own}, 1e-12)


def test_a_mean_far_from_zero_costs_no_digits(everyone: list[Any]) -> None:
    # the mean of the squares less the square of the mean would have none left
    expected = FAR.double().var((0, 2, 3), correction=0).float()
    for found, _ in shards_of(everyone):
        torch.testing.assert_close(found["far"], expected, rtol=1e-4, atol=0)


def test_statistics_of_bfloat16_values_are_float32(everyone: list[Any]) -> None:
    values = NEAR.double().requires_grad_()
    norm = nn.BatchNorm2d(3).double()
    output = norm(values)
    (output * NEAR.square()).sum().backward()
    assert values.grad is not None and norm.running_mean is not None
    for found, rows in shards_of(everyone):
        here = found["bfloat16"]
        torch.testing.assert_close(here["mean"], norm.running_mean.float(), rtol=0, atol=1e-7)
        wanted = {"output": output.detach()[rows], "gradient": values.grad[rows]}
        for name, value in wanted.items():
            assert here[name].is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(here[name], value.bfloat16(), rtol=0.01, atol=0.01)


def test_a_batch_without_any_row_changes_no_statistics(everyone: list[Any]) -> None:
    new = nn.BatchNorm2d(3)
    for found in everyone:
        empty = found["empty"]
        assert empty["output"].shape == (0, 3, 4, 2)
        for name in ("running_mean", "running_var"):
            assert torch.equal(empty[name], new.get_buffer(name))
        for name in ("weight gradient", "bias gradient"):
            assert torch.equal(empty[name], torch.zeros(3))


def test_each_pass_asks_the_others_once_and_keeps_the_input_alone(everyone: list[Any]) -> None:
    for found, rows in shards_of(everyone):
        assert found["traffic"]["calls"] == ["all_gather", "all_reduce"]
        # the count; weight, mean and variance; the values
        assert found["traffic"]["kept"] == sorted([1, 3, 3, 3, 72 * len(rows)])


def test_global_sums_by_hand(everyone: list[Any]) -> None:
    # values 1, 2, ...; the gradient of a sum is the sum of the weights of all: 1 each, and 0, 1, ..
    count = len(everyone)
    for found in everyone:
        assert found["sums"]["total"].tolist() == [sum(range(1, count + 1)), 10.0 * count]
        assert found["sums"]["gradient"].tolist() == [count, sum(range(count))]
        assert found["sums"]["max"] == 5


def test_alone_nothing_is_summed() -> None:
    value = torch.randn(3)
    assert global_sum(value) is value
    assert (rank(), world_size()) == (0, 1)
    assert global_max(torch.tensor([-1.0])) == 0 and global_max(torch.zeros(0)) == 0


def test_global_statistics_keep_parameters_buffers_type_and_mode() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, eps=1e-2)
    nn.init.normal_(norm.weight)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(norm)).double()
    model(torch.randn(5, 3, 2, 2).double())
    model.eval()
    image = torch.randn(2, 3, 2, 2).double()
    expected, weights = model(image), {n: v.clone() for n, v in model.state_dict().items()}
    twin = use_global_statistics(model)
    assert isinstance(twin[1][0], GlobalBatchNorm) and not twin[1][0].training  # pyright: ignore
    assert all(torch.equal(v, weights[n]) for n, v in twin.state_dict().items())
    assert torch.equal(twin(image), expected)
