"""PFA by hand: transport costs, class prototypes and the alignment of what they mean."""

from math import log

import pytest
import torch

from dfpl.alignment import (
    ClassPrototypes,
    class_prototypes,
    match_prototypes,
    semantic_alignment_loss,
    transport_cost,
)

NO_GATE = torch.zeros(4)


def test_the_cost_is_the_squared_distance() -> None:
    image, tabular = (
        torch.tensor([[[0.0, 0.0], [1.0, 2.0]]]),
        torch.tensor([[[3.0, 4.0], [1.0, 0]]]),
    )
    assert transport_cost(image, tabular).tolist() == [[[25.0, 1.0], [8.0, 4.0]]]


def test_the_cost_of_equal_prototypes_is_never_negative() -> None:
    prototypes = 100 * torch.randn(50, 5, 512, generator=torch.Generator().manual_seed(0))
    assert (transport_cost(prototypes, prototypes.clone()) >= 0).all()


def test_matching_by_hand() -> None:
    # one prototype each: all mass goes from one to the other, G log G = 0, so the cost itself
    image, tabular = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[3.0, 4.0]]])
    shared, specific = match_prototypes(
        [(image, tabular), (image, image)], torch.tensor([True]), 0.1
    )
    assert shared.value.item() == pytest.approx(25) and specific.value.item() == 0


def test_matching_two_far_prototypes_is_a_permutation() -> None:
    # two matches of cost 0 beside two of cost 200: G = 1/2 on the diagonal, entropy log 2
    prototypes = torch.tensor([[[0.0, 0.0], [10.0, 10.0]]])
    (found,) = match_prototypes([(prototypes, prototypes.flip(1))], torch.tensor([True]), 0.1)
    assert found.value.item() == pytest.approx(-0.1 * log(2))
    torch.testing.assert_close(found.plan, torch.tensor([[[0.0, 0.5], [0.5, 0.0]]]))


def test_what_is_not_paired_is_not_matched() -> None:
    image = torch.full((2, 3, 4), 5.0, requires_grad=True)
    paired = torch.tensor([True, False])
    (found,) = match_prototypes([(image, torch.zeros(2, 3, 4))], paired, 0.1)
    found.value.sum().backward()
    # nine equal costs of 100, or of 0: G = 1/9, so the cost less 0.1 log 9
    torch.testing.assert_close(found.value, torch.tensor([100.0, 0.0]) - 0.1 * log(9))
    assert image.grad is not None and image.grad[0].all() and not image.grad[1].any()


TOKEN_MEAN = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 8.0], [100.0, 100.0]])
PROTOTYPE_MEAN = torch.tensor([[0.0, 2.0], [0.0, 4.0], [6.0, 0.0], [100.0, 100.0]])
# samples 0 and 1 are of class 0, sample 2 of class 1, nobody of class 2; sample 3 lacks it
POSITIVE = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 0]])


def test_class_prototypes_without_a_gate_are_halfway_between_the_scales() -> None:
    # class 0: tokens (2, 0), prototypes (0, 3); class 1: (0, 8) and (6, 0); lam = sigmoid(0)
    found = class_prototypes(TOKEN_MEAN, PROTOTYPE_MEAN, POSITIVE, NO_GATE, "gated")
    assert found.vector.tolist() == [[1.0, 1.5], [3.0, 4.0], [0.0, 0.0]]
    assert found.found.tolist() == [True, True, False]


def test_the_gate_of_class_prototypes_by_hand() -> None:
    # w . [2, 0, 0, 3] = log 3: three quarters of the tokens; w . [0, 8, 6, 0] = 0: halfway
    gate = torch.tensor([0.0, 0.0, 0.0, log(3) / 3])
    found = class_prototypes(TOKEN_MEAN, PROTOTYPE_MEAN, POSITIVE, gate, "gated")
    torch.testing.assert_close(found.vector[:2], torch.tensor([[1.5, 0.75], [3.0, 4.0]]))


def test_class_prototypes_of_one_scale() -> None:
    tokens = class_prototypes(TOKEN_MEAN, PROTOTYPE_MEAN, POSITIVE, None, "global")
    prototypes = class_prototypes(TOKEN_MEAN, PROTOTYPE_MEAN, POSITIVE, None, "prototype")
    assert tokens.vector[:2].tolist() == [[2.0, 0.0], [0.0, 8.0]]
    assert prototypes.vector[:2].tolist() == [[0.0, 3.0], [6.0, 0.0]]
    assert tokens.found.tolist() == prototypes.found.tolist() == [True, True, False]


def test_class_prototypes_carry_gradient() -> None:
    tokens, gate = TOKEN_MEAN.clone().requires_grad_(), NO_GATE.clone().requires_grad_()
    class_prototypes(tokens, PROTOTYPE_MEAN, POSITIVE, gate, "gated").vector.sum().backward()
    assert tokens.grad is not None and tokens.grad[:3].any(dim=1).all() and not tokens.grad[3].any()
    assert gate.grad is not None and gate.grad.any()


def test_a_sample_of_two_classes_counts_for_both() -> None:
    positive = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    found = class_prototypes(TOKEN_MEAN[:2], PROTOTYPE_MEAN[:2], positive, None, "global")
    assert found.vector.tolist() == [[1.0, 0.0], [2.0, 0.0]]


def classes(vectors: list[list[float]], found: list[bool]) -> ClassPrototypes:
    return ClassPrototypes(torch.tensor(vectors), torch.tensor(found))


def test_semantic_alignment_by_hand() -> None:
    # class 0: cos 1 against cos 0.6, gap 0.16; class 1: cos 0 against 0.8, gap 0.64;
    # class 2 is known to one modality only; sample 1 is not paired: (0.16 + 0.64) / 2
    image = torch.tensor([[2.0, 0.0], [7.0, 7.0]])
    tabular = torch.tensor([[0.6, 0.8], [5.0, -5.0]])
    axes = [[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]]
    loss = semantic_alignment_loss(
        (image, classes(axes, [True, True, True])),
        (tabular, classes(axes, [True, True, False])),
        torch.tensor([True, False]),
    )
    assert loss.item() == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("found", "paired"), [(([True, False], [False, True]), True), (([True] * 2, [True] * 2), False)]
)
def test_no_class_in_common_or_no_pair_gives_zero(
    found: tuple[list[bool], list[bool]], paired: bool
) -> None:
    image = torch.randn(3, 2, requires_grad=True)
    axes = [[1.0, 0.0], [0.0, 1.0]]
    loss = semantic_alignment_loss(
        (image, classes(axes, found[0])),
        (torch.randn(3, 2), classes(axes, found[1])),
        torch.tensor([paired] * 3),
    )
    loss.backward()
    assert loss == 0
    assert image.grad is not None and torch.equal(image.grad, torch.zeros(3, 2))
