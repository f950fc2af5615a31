"""SSPM, term by term: values by hand, and what happens where there is nothing to compare."""

from math import exp, log, sqrt

import pytest
import torch
from torch import Tensor

from dfpl.prototypes import (
    Branch,
    Divergence,
    TokenPrototypeExtractor,
    disentanglement_loss,
    divergence_loss,
    diversity_loss,
    mean_pairwise_cosine,
)

ONE = torch.tensor([True])
NONE = torch.zeros(4, dtype=torch.bool)


def test_disentanglement_at_45_degrees() -> None:
    shared, specific = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 3.0]])
    assert disentanglement_loss(shared, specific, ONE).item() == pytest.approx(sqrt(1 / 2))


def test_opposite_vectors_are_as_entangled_as_equal_ones() -> None:
    shared = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    specific = torch.tensor([[-5.0, 0.0], [2.0, 0.0], [0.0, 7.0]])
    loss = disentanglement_loss(shared, specific, torch.ones(3, dtype=torch.bool))
    assert loss.item() == pytest.approx(2 / 3)


def sigmoid_divergence(x: float, y: float) -> float:
    u, w = 1 / (1 + exp(-x)), 1 / (1 + exp(-y))
    m = (u + w) / 2
    return (u * log(u / m) + w * log(w / m)) / 2


def test_divergence_of_sigmoids_by_hand() -> None:
    # sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4; the second dimension adds nothing
    image, tabular = torch.tensor([[0.0, 1.0]]), torch.tensor([[log(3), 1.0]])
    expected = (0.5 * log(0.5 / 0.625) + 0.75 * log(0.75 / 0.625)) / 2
    assert divergence_loss(image, tabular, ONE, "sigmoid").item() == pytest.approx(expected)
    assert sigmoid_divergence(0, log(3)) == pytest.approx(expected)


def test_divergence_of_distributions_is_at_most_log_2() -> None:
    # disjoint up to e^-120: log 2; and never more
    image, tabular = torch.tensor([[60.0, -60.0]]), torch.tensor([[-60.0, 60.0]])
    assert divergence_loss(image, tabular, ONE, "softmax").item() == pytest.approx(log(2))
    some, other = 10 * torch.randn(2, 500, 7, generator=torch.Generator().manual_seed(0))
    for i in range(500):
        value = divergence_loss(some[i : i + 1], other[i : i + 1], ONE, "softmax")
        assert 0 <= value <= log(2) + 1e-6


def test_divergence_of_distributions_by_hand() -> None:
    # (1/2, 1/2) and (3/4, 1/4), middle (5/8, 3/8); a constant added to all changes nothing
    image, tabular = torch.tensor([[0.0, 0.0]]), torch.tensor([[7 + log(3), 7.0]])
    expected = (
        0.5 * log(0.5 / 0.625)
        + 0.5 * log(0.5 / 0.375)
        + 0.75 * log(0.75 / 0.625)
        + 0.25 * log(0.25 / 0.375)
    ) / 2
    assert divergence_loss(image, tabular, ONE, "softmax").item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_equal_vectors_do_not_diverge(kind: Divergence) -> None:
    vectors = torch.randn(1, 9)
    assert divergence_loss(vectors, vectors.clone(), ONE, kind).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
@pytest.mark.parametrize("pair", [(120.0, -120.0), (-120.0, 120.0), (-120.0, -120.0), (1e4, -1e4)])
def test_divergence_is_finite_far_out(kind: Divergence, pair: tuple[float, float]) -> None:
    image = torch.tensor([[pair[0], 0.0]], requires_grad=True)
    loss = divergence_loss(image, torch.tensor([[pair[1], 0.0]]), ONE, kind)
    loss.backward()
    assert loss.isfinite() and image.grad is not None and image.grad.isfinite().all()


def test_diversity_by_hand() -> None:
    # cos = 0.6, which is 0.4 above the margin; both ordered pairs give the same
    prototypes = torch.tensor([[[2.0, 0.0], [0.6, 0.8]]])
    assert diversity_loss(prototypes, ONE, 0.2).item() == pytest.approx(0.4)


def test_diversity_of_three_prototypes_by_hand() -> None:
    # pairs: cos 1 (0.7 above 0.3), twice cos 0 (below); mean over 6 ordered pairs: 2 * 0.7 / 6
    prototypes = torch.tensor([[[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]]])
    assert diversity_loss(prototypes, ONE, 0.3).item() == pytest.approx(1.4 / 6)
    assert mean_pairwise_cosine(prototypes, ONE).item() == pytest.approx(2 / 6)


def test_opposite_prototypes_are_diverse_and_their_cosine_is_told() -> None:
    prototypes = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    assert diversity_loss(prototypes, ONE, 0.0) == 0
    assert mean_pairwise_cosine(prototypes, ONE).item() == pytest.approx(-1)


def test_one_prototype_has_nothing_to_be_apart_from() -> None:
    prototypes = torch.randn(1, 1, 8, requires_grad=True)
    loss = diversity_loss(prototypes, ONE, 0.2)
    loss.backward()
    assert loss == 0 and mean_pairwise_cosine(prototypes, ONE) == 0
    assert prototypes.grad is not None and not prototypes.grad.any()


def test_the_watched_cosine_carries_no_gradient() -> None:
    assert not mean_pairwise_cosine(torch.randn(1, 3, 8, requires_grad=True), ONE).requires_grad


@pytest.mark.parametrize("term", ["disentanglement", "divergence", "diversity"])
def test_a_batch_without_the_modality_gives_zero_and_trains(term: str) -> None:
    values = torch.full((4, 5, 8), torch.nan, requires_grad=True)
    losses = {
        "disentanglement": lambda x: disentanglement_loss(x[:, 0], x[:, 1], NONE),
        "divergence": lambda x: divergence_loss(x[:, 0], x[:, 1], NONE, "sigmoid"),
        "diversity": lambda x: diversity_loss(x, NONE, 0.2),
    }
    loss = losses[term](values.nan_to_num(0.0))
    loss.backward()
    assert loss == 0
    assert values.grad is not None and torch.equal(values.grad, torch.zeros_like(values))


def extractor(norm: str = "none") -> TokenPrototypeExtractor:
    """Two queries of width 4 whose maps are identities and whose feed-forward part adds 0."""
    found = TokenPrototypeExtractor(2, 4, norm)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for part in (found.attention.query, found.attention.key, found.attention.value):
            part.weight.copy_(torch.eye(4))
        for part in (found.feed_forward[0], found.feed_forward[2]):
            assert isinstance(part, torch.nn.Linear)
            part.weight.zero_()
            part.bias.zero_()
        found.queries.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0], [2 * log(3), 0.0, 0.0, 0.0]]))
    return found


TOKENS = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]])


def test_prototypes_by_hand() -> None:
    # query 0 looks at both tokens alike; query 1 scores log 3 against 0 (scale sqrt(4) = 2): 3/4
    prototypes = extractor()(TOKENS)
    expected = [[0.5, 0.5, 0.0, 0.0], [0.75 + 2 * log(3), 0.25, 0.0, 0.0]]
    torch.testing.assert_close(prototypes, torch.tensor([expected]))


def test_normalised_prototypes() -> None:
    lengths = extractor("l2")(TOKENS).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(1, 2))
    levelled = extractor("layernorm")(TOKENS)
    torch.testing.assert_close(levelled.mean(dim=-1), torch.zeros(1, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        levelled.std(dim=-1, unbiased=False), torch.ones(1, 2), rtol=1e-3, atol=0
    )


def test_prototypes_do_not_depend_on_the_order_of_tokens() -> None:
    torch.manual_seed(0)
    extract, tokens = TokenPrototypeExtractor(3, 8, "none"), torch.randn(2, 5, 8)
    torch.testing.assert_close(extract(tokens), extract(tokens.flip(1)), rtol=1e-5, atol=1e-6)


def test_the_mean_of_the_prototypes_of_a_branch() -> None:
    prototypes: Tensor = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    branch = Branch(torch.zeros(1, 2), prototypes)
    assert branch.prototype_mean.tolist() == [[2.0, 4.0]]
