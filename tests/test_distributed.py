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
from torch.nn.parallel import DistributedDataParallel

from dfpl.data.batch import Batch
from dfpl.distributed import (
    GlobalBatchNorm,
    global_max,
    global_sum,
    rank,
    use_global_statistics,
    world_size,
)
from dfpl.method import objective
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
Found = dict[str, dict[str, Tensor]]


def take(batch: Batch, rows: list[int]) -> Batch:
    return Batch(*(values[torch.tensor(rows, dtype=torch.long)] for values in batch))


def step(case: int, rows: list[int], wrap: Callable[[Model], Any]) -> Found:
    """Terms, gradients and buffers after one backward pass on these rows of the case's batch."""
    values, name, dtype = CASES[case]
    torch.manual_seed(0)
    model = Model(Config.from_dict({**SMALL, **values}), SCHEMA).to(dtype)
    assert model.gate is not None
    nn.init.normal_(model.gate)
    model.train()
    whole = make_batch(GLOBAL[name])
    whole = whole._replace(image=whole.image.to(dtype), numeric=whole.numeric.to(dtype))
    shard = take(whole, rows)
    wrapped = wrap(model)  # kept: without it nobody would average the gradients
    terms = model.losses(wrapped(shard), shard)
    objective(model, terms).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    buffers = dict(model.named_buffers())
    return {"terms": terms, "gradients": gradients, "buffers": buffers}


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


def worker(me: int, folder: Path) -> None:
    assert rank() == me
    found: dict[str, Any] = {"sums": sums(me), "norm": {}, "step": {}}
    for name, shards in SHARDS[world_size()].items():
        found["norm"][name] = normalise(shards[me], GlobalBatchNorm)
        for case in range(len(CASES)):
            found["step"][f"{name}/{case}"] = step(
                case, shards[me], lambda m: DistributedDataParallel(use_global_statistics(m))
            )
    torch.save(found, folder / f"{me}.pt")


def sums(me: int) -> dict[str, Tensor]:
    value = torch.tensor([1.0 + me, 10.0], requires_grad=True)
    total = global_sum(value)
    (total * torch.tensor([1.0, me])).sum().backward()
    assert value.grad is not None
    one_sided = torch.tensor([5.0]) if me == 1 else torch.zeros(0)
    return {"total": total.detach(), "gradient": value.grad, "max": global_max(one_sided)}


@pytest.fixture(scope="module", params=[2, 3])
def everyone(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[list[Any]]:
    """What each of 2, then of 3 workers found: all cases in one start, as starting is slow."""
    folder: Path = tmp_path_factory.mktemp("workers")
    workers.start(worker, request.param, folder)
    yield [torch.load(folder / f"{me}.pt") for me in range(request.param)]


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Each tensor differs by no more than a share of its largest entry."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().amax().item() if value.numel() else 0.0
        torch.testing.assert_close(
            found[name],
            value,
            rtol=0,
            atol=tolerance * max(scale, 1e-3),
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("case", range(len(CASES)))
def test_workers_find_the_terms_and_gradients_of_one(everyone: list[Any], case: int) -> None:
    expected = step(case, list(range(8)), lambda model: model)
    tolerance = 1e-5 if CASES[case][2] is torch.float32 else 1e-10
    for name in SHARDS[len(everyone)]:
        for part in ("terms", "gradients", "buffers"):
            for found in everyone:
                here = found["step"][f"{name}/{case}"][part]
                assert_same(
                    {n: v.detach() for n, v in here.items()},
                    {n: v.detach() for n, v in expected[part].items()},
                    tolerance,
                )


def test_normalisation_over_workers_is_that_of_one(everyone: list[Any]) -> None:
    expected = normalise(list(range(8)), nn.BatchNorm2d)
    for name, shards in SHARDS[len(everyone)].items():
        for found, rows in zip(everyone, shards, strict=True):
            here = dict(found["norm"][name])
            assert_same(
                here,
                {
                    **expected,
                    "input": expected["input"][:, rows],
                    "eval": expected["eval"][rows],
                },
                1e-12,
            )


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
