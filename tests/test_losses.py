"""The mean that every loss passes through, and the classification losses, by hand."""

from math import exp, log

import pytest
import torch

from dfpl.losses import mean_over, one_hot, task_loss


def test_the_mean_is_over_the_mask_alone() -> None:
    values = torch.tensor([1.0, 100.0, 4.0])
    mask = torch.tensor([True, False, True])
    assert mean_over(values, mask) == 2.5


def test_what_is_not_in_the_mask_may_be_nan() -> None:
    values = torch.tensor([1.0, torch.nan, 4.0], requires_grad=True)
    mean = mean_over(values, torch.tensor([True, False, True]))
    mean.backward()
    assert mean == 2.5
    assert values.grad is not None and values.grad.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("size", [0, 3])
def test_the_mean_over_none_is_zero_without_gradient(size: int) -> None:
    values = torch.randn(size, requires_grad=True)
    mean = mean_over(values, torch.zeros(size, dtype=torch.bool))
    mean.backward()
    assert mean == 0
    assert values.grad is not None and not values.grad.any()


def test_one_hot_of_indices_and_of_several_labels() -> None:
    logits = torch.zeros(2, 3)
    assert one_hot(torch.tensor([2, 0]), logits).tolist() == [[0, 0, 1], [1, 0, 0]]
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert one_hot(several, logits).tolist() == several.tolist()


def test_binary_cross_entropy_by_hand() -> None:
    # one sample of class 0: log(1 + e^-1) where it is positive, log(1 + e^2) where it is not
    logits = torch.tensor([[1.0, 2.0]])
    expected = (log(1 + exp(-1)) + log(1 + exp(2))) / 2
    assert task_loss(logits, torch.tensor([0]), "bce").item() == pytest.approx(expected)


def test_binary_cross_entropy_of_several_labels_by_hand() -> None:
    # both samples all at logit 0: log 2 everywhere, whatever the labels
    label = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert task_loss(torch.zeros(2, 2), label, "bce").item() == pytest.approx(log(2))


def test_cross_entropy_by_hand() -> None:
    # sample 0: -log(e^1 / (e^1 + e^2)) = log(1 + e); sample 1: uniform over two classes, log 2
    logits = torch.tensor([[1.0, 2.0], [5.0, 5.0]])
    expected = (log(1 + exp(1)) + log(2)) / 2
    assert task_loss(logits, torch.tensor([0, 1]), "ce").item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["bce", "ce"])
def test_large_logits_stay_finite(kind: str) -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = task_loss(logits, torch.tensor([1, 1]), kind)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()
