"""The contrastive loss: by hand and from NumPy, who takes part, and any number of workers."""

from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import workers
from torch import Tensor

from dfpl.contrastive import contrastive_loss
from dfpl.distributed import world_size

PAIRED = torch.tensor([1, 0, 1, 1, 0, 1, 0]).bool()
SHARDS = {
    "in turn": [[0, 2, 4, 6], [1, 3, 5]],
    "one pair on a worker": [[0, 1, 4], [2, 3, 5, 6]],
    "no pair on a worker": [[1, 4], [0, 2, 3, 5, 6]],
    "no row on a worker": [[], list(range(7))],
}


def filler(shape: tuple[int, int], k: float) -> Tensor:
    """Element number i, from 1 and row by row, is sin(i k)."""
    return (torch.arange(1, 1 + shape[0] * shape[1], dtype=torch.float64) * k).sin().view(shape)


def draw(rows: int = 7, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, tabular = torch.randn(2, rows, width, generator=generator, dtype=torch.float64)
    return image.requires_grad_(), tabular.requires_grad_()


def everyone(rows: int) -> Tensor:
    return torch.ones(rows, dtype=torch.bool)


def oracle(image: np.ndarray, tabular: np.ndarray, temperature: float) -> float:
    """Pair by pair, from the equation."""
    u = image / np.linalg.norm(image, axis=1, keepdims=True)
    v = tabular / np.linalg.norm(tabular, axis=1, keepdims=True)
    found = []
    for a, b in ((u, v), (v, u)):
        for i in range(len(a)):
            scores = np.exp([a[i] @ other / temperature for other in b])
            found += [-np.log(scores[i] / scores.sum())]
    return float(np.mean(found))


def test_two_pairs_by_hand() -> None:
    # images along the axes, both tables along the first; the lengths do not matter
    image, tabular = torch.tensor([[2.0, 0], [0, 3]]), torch.tensor([[5.0, 0], [7, 0]])
    # image to table: two equal scores for both; table to image: scores 2 and 0, right and wrong
    expected = (2 * log(2) + log(1 + exp(-2)) + log(1 + exp(2))) / 4
    assert contrastive_loss(image, tabular, everyone(2), 0.5).item() == pytest.approx(expected)


def test_the_golden_value() -> None:
    loss = contrastive_loss(filler((3, 4), 0.7), filler((3, 4), 1.3), everyone(3), 0.1)
    assert loss.item() == pytest.approx(3.4575170, abs=1e-7)
    assert loss.item() == pytest.approx((3.4258144 + 3.4892196) / 2, abs=1e-7)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_it_equals_the_oracle_and_its_gradient_the_slope(temperature: float) -> None:
    image, tabular = draw()
    loss = contrastive_loss(image, tabular, PAIRED, temperature)
    pairs = [x.detach()[PAIRED].numpy() for x in (image, tabular)]
    assert loss.item() == pytest.approx(oracle(pairs[0], pairs[1], temperature), rel=1e-12)
    assert torch.autograd.gradcheck(
        lambda u, v: contrastive_loss(u, v, PAIRED, temperature), (image, tabular)
    )


def test_the_modalities_have_the_same_part() -> None:
    image, tabular = draw()
    loss = contrastive_loss(image, tabular, PAIRED, 0.1)
    swapped = contrastive_loss(tabular, image, PAIRED, 0.1)
    assert loss.item() == pytest.approx(swapped.item(), rel=1e-12)


def test_what_is_alike_has_a_small_loss_and_equal_scores_the_logarithm_of_the_pairs() -> None:
    image, tabular = torch.eye(7), torch.ones(7, 7)
    assert contrastive_loss(image, image, everyone(7), 0.05).item() < 1e-6
    assert contrastive_loss(image, tabular, everyone(7), 0.1).item() == pytest.approx(log(7))


def test_a_sample_without_both_modalities_has_no_part_even_as_nan() -> None:
    image, tabular = draw()
    alone = contrastive_loss(image[PAIRED], tabular[PAIRED], everyone(4), 0.1)
    spoiled = [x.detach().clone() for x in (image, tabular)]
    spoiled[0][1], spoiled[1][4] = torch.nan, torch.inf
    for x in spoiled:
        x.requires_grad_()
    loss = contrastive_loss(spoiled[0], spoiled[1], PAIRED, 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(alone.item(), rel=1e-12)
    for x in spoiled:
        assert x.grad is not None and x.grad[PAIRED].any(dim=1).all()
        assert not x.grad[~PAIRED].any()


@pytest.mark.parametrize("pairs", [0, 1])
def test_fewer_than_two_pairs_give_zero_and_a_zero_gradient(pairs: int) -> None:
    image, tabular = draw()
    loss = contrastive_loss(image, tabular, torch.arange(7) < pairs, 0.1)
    loss.backward()
    assert loss.item() == 0
    for x in (image, tabular):
        assert x.grad is not None and not x.grad.any()


def test_vectors_that_look_alike_cost_no_digits() -> None:
    one, many = 3 + 0.01 * torch.stack([x.detach() for x in draw()]), []
    for values in (one.float(), one.float().double()):
        values.requires_grad_()
        contrastive_loss(values[0], values[1], PAIRED, 0.1).backward()
        assert values.grad is not None and values.grad.dtype == values.dtype
        many.append(values.grad.double())
    torch.testing.assert_close(many[0], many[1], rtol=0, atol=1e-6 * many[1].abs().max().item())


def slopes(rows: list[int], paired: Tensor) -> dict[str, Tensor]:
    """The loss, and its gradient by each row, that DistributedDataParallel would average."""
    image, tabular = draw()
    loss = contrastive_loss(image[rows], tabular[rows], paired[rows], 0.1)
    loss.backward()
    gradients = [x.grad if x.grad is not None else torch.zeros_like(x) for x in (image, tabular)]
    found = torch.stack(gradients) / world_size()
    if world_size() > 1:
        dist.all_reduce(found)
    return {"loss": loss.detach(), "gradients": found}


def work(me: int, folder: Path) -> None:
    found = {name: slopes(shards[me], PAIRED) for name, shards in SHARDS.items()}
    few = torch.arange(7) < 2  # two pairs, one on each worker
    torch.save({**found, "a pair each": slopes(SHARDS["in turn"][me], few)}, folder / f"{me}.pt")


def test_workers_find_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    workers.start(work, 2, tmp_path)
    rows = list(range(7))
    expected = {name: slopes(rows, PAIRED) for name in SHARDS}
    expected["a pair each"] = slopes(rows, torch.tensor([1, 1, 0, 0, 0, 0, 0]).bool())
    assert expected["a pair each"]["loss"] > 0
    for me in range(2):
        for name, parts in torch.load(tmp_path / f"{me}.pt").items():
            workers.assert_same(parts, expected[name], 1e-12)
