"""What TIP's pre-training draws and loses: values by hand, golden values, NumPy's oracles."""

from math import log, nan

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dfpl.noise import StepNoise
from dfpl.pretraining import (
    LEAST_CHANCE,
    cells_of,
    choose_columns,
    corrupt,
    corrupt_steps,
    draw_negatives,
    matching_loss,
    mean_of_found,
    reconstruction_loss,
    table_of,
)


def filled(*shape: int, step: float) -> Tensor:
    """Element number i, from 1, is sin(i step)."""
    count = int(np.prod(shape))
    return torch.from_numpy(np.sin(np.arange(1, count + 1) * step).reshape(shape))


def grid(count: int, *shape: int) -> Tensor:
    """Evenly spread numbers in (0, 1) along the first dimension, equal along the others."""
    steps = (torch.arange(count) + 0.5) / count
    return steps.view(-1, *[1] * len(shape)).expand(count, *shape)


def test_a_table_is_its_cells_and_back() -> None:
    numeric, category = torch.tensor([[1.5, nan]]), torch.tensor([[0, 1, 4]])
    cells = cells_of(numeric, category)
    assert cells.nan_to_num(-9).tolist() == [[-9, 1, 4, 1.5, -9]]
    again = table_of(cells, 3)
    assert again[0].nan_to_num(-9).tolist() == [[1.5, -9]] and torch.equal(again[1], category)


def test_columns_are_chosen_by_number_and_all_alike() -> None:
    torch.manual_seed(0)
    chosen = choose_columns(StepNoise().uniform(6000, (17,), 0), 8)
    assert (chosen.sum(dim=1) == 8).all()
    share = chosen.float().mean(dim=0)
    assert (share - 8 / 17).abs().max() < 4 * (8 / 17 * 9 / 17 / 6000) ** 0.5
    assert not choose_columns(torch.rand(3, 2), 0).any()


def test_a_corrupted_cell_comes_from_the_same_column_of_a_table() -> None:
    cells = torch.tensor([[2.0, 10], [3, nan], [nan, 30], [99, 99]])
    has_table = torch.tensor([True, True, True, False])
    everything = torch.ones(4, 2, dtype=torch.bool)
    # a third of the numbers for each table; an empty donor changes nothing
    for number, expected in {
        0.1: [[2, 10], [2, nan], [nan, 10], [2, 10]],
        0.5: [[3, 10], [3, nan], [nan, 30], [3, 99]],
        0.9: [[2, 30], [3, nan], [nan, 30], [99, 30]],
    }.items():
        found = corrupt(cells, has_table, everything, torch.full((4, 2), number))
        assert found.nan_to_num(-9).equal(torch.tensor(expected).nan_to_num(-9))


def test_cells_that_are_not_chosen_stay_and_so_do_all_where_nobody_has_a_table() -> None:
    cells, uniform = torch.randn(5, 3), torch.rand(5, 3)
    chosen = torch.rand(5, 3) < 0.5
    found = corrupt(cells, torch.ones(5, dtype=torch.bool), chosen, uniform)
    assert torch.equal(found[~chosen], cells[~chosen])
    assert torch.equal(corrupt(cells, torch.zeros(5, dtype=torch.bool), ~chosen, uniform), cells)


def test_a_corrupted_cell_may_come_from_any_table_and_each_on_its_own() -> None:
    torch.manual_seed(0)
    cells = torch.arange(8.0)[:, None].expand(8, 500).contiguous()
    everyone = torch.ones(8, dtype=torch.bool)
    uniform = StepNoise().uniform(8, (500,), 0)
    found = corrupt(cells, everyone, torch.ones(8, 500, dtype=torch.bool), uniform)
    counts = found.flatten().long().bincount(minlength=8)
    assert (counts - 500).abs().max() < 4 * (4000 * 7 / 64) ** 0.5
    assert (found[:, 0] != found[:, 1]).any()


def test_a_corrupted_step_is_the_same_step_of_a_table_as_a_whole() -> None:
    # two steps of two channels; of the third table the second step is padding, the last is absent
    series = torch.tensor(
        [[[1.0, 10], [2, 20]], [[3, 30], [4, 40]], [[5, 50], [nan, nan]], [[9, 9], [9, 9]]]
    )
    filled = torch.tensor([[True, True], [True, True], [True, False], [True, True]])
    has_table = torch.tensor([True, True, True, False])
    everything = torch.ones(4, 2, dtype=torch.bool)
    for number, first_channel in {
        0.1: [[1, 2], [1, 2], [1, -9], [1, 2]],
        0.5: [[3, 4], [3, 4], [3, -9], [3, 4]],
        0.9: [[5, 2], [5, 4], [5, -9], [5, 9]],  # the donor has no second step
    }.items():
        draws = torch.full((4, 2), number)
        found = corrupt_steps(series, filled, has_table, everything, draws).nan_to_num(-9)
        assert found[..., 0].tolist() == first_channel
        changed = found != series.nan_to_num(-9)
        assert torch.equal(found[..., 1] == 10 * found[..., 0], found[..., 1] > 9)
        assert torch.equal(changed[..., 0], changed[..., 1])
    nobody = torch.zeros(4, dtype=torch.bool)
    for kept in (
        corrupt_steps(series, filled, has_table, ~everything, draws),
        corrupt_steps(series, filled, nobody, everything, draws),
    ):
        assert torch.equal(kept.nan_to_num(-9), series.nan_to_num(-9))


def test_cells_and_steps_of_one_table_may_come_from_several() -> None:
    series = torch.arange(3.0)[:, None, None].expand(3, 2, 1).contiguous()
    everything = torch.ones(3, 2, dtype=torch.bool)
    draws = torch.tensor([[0.1, 0.9], [0.5, 0.1], [0.9, 0.5]])
    there = torch.ones(3, dtype=torch.bool)
    found = corrupt_steps(series, everything, there, everything, draws)
    assert found[..., 0].tolist() == [[0, 2], [1, 0], [2, 1]]


def chances(image: np.ndarray, tabular: np.ndarray, temperature: float) -> np.ndarray:
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, tabular))
    likeness = np.exp(u @ v.T / temperature)
    chance = likeness / likeness.sum(axis=1, keepdims=True) + LEAST_CHANCE
    np.fill_diagonal(chance, 0)
    return chance / chance.sum(axis=1, keepdims=True)


def drawn_shares(image: Tensor, tabular: Tensor, paired: Tensor, count: int = 2000) -> np.ndarray:
    """How often each row is drawn for each, of tables and of images."""
    shares = np.zeros((2, len(image), len(image)))
    for number in grid(count):
        drawn = draw_negatives(image, tabular, paired, number.expand(len(image), 2), 0.5)
        for side in range(2):
            shares[side, range(len(image)), drawn[:, side].numpy()] += 1 / count
    return shares


def test_negatives_are_drawn_by_their_likeness() -> None:
    torch.manual_seed(0)
    image, tabular = torch.randn(5, 3), torch.randn(5, 3)
    found = drawn_shares(image, tabular, torch.ones(5, dtype=torch.bool))
    u, v = image.double().numpy(), tabular.double().numpy()
    for side, expected in enumerate((chances(u, v, 0.5), chances(v, u, 0.5))):
        np.testing.assert_allclose(found[side], expected, rtol=0, atol=1e-3)


def test_nobody_is_its_own_negative_and_the_unpaired_are_nobodys() -> None:
    torch.manual_seed(0)
    image, tabular = torch.randn(6, 3), torch.randn(6, 3)
    image[1], tabular[4] = nan, nan
    paired = torch.tensor([True, False, True, True, False, True])
    found = drawn_shares(image, tabular, paired, 200)
    assert not found[:, :, ~paired.numpy()].any()
    assert not found[:, range(6), range(6)][:, paired.numpy()].any()
    both = paired.nonzero().squeeze(1).numpy()
    expected = chances(image[both].double().numpy(), tabular[both].double().numpy(), 0.5)
    np.testing.assert_allclose(found[0][np.ix_(both, both)], expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("paired", [[True, False, False], [False] * 3])
def test_without_another_pair_a_row_is_named_all_the_same(paired: list[bool]) -> None:
    drawn = draw_negatives(
        torch.randn(3, 2), torch.randn(3, 2), torch.tensor(paired), torch.rand(3, 2), 0.1
    )
    assert ((drawn >= 0) & (drawn < 3)).all()


def test_matching_by_hand() -> None:
    # of one pair: right by 2, wrong by 2, undecided
    logits = torch.tensor([[[0.0, 2.0], [0.0, 2.0], [0.0, 0.0]]]).repeat(2, 1, 1)
    logits[1] = nan
    right, wrong = log(1 + np.exp(-2)), log(1 + np.exp(2))
    found = matching_loss(logits, torch.tensor([True, False]))
    assert found.item() == pytest.approx((right + wrong + log(2)) / 3)
    assert matching_loss(logits, torch.tensor([False, False])) == 0


def test_matching_is_the_mean_over_one_right_and_two_wrong_pairs() -> None:
    logits = torch.randn(7, 3, 2)
    label = torch.tensor([1, 0, 0]).repeat(7)
    found = matching_loss(logits, torch.ones(7, dtype=torch.bool))
    torch.testing.assert_close(found, F.cross_entropy(logits.flatten(0, 1), label))


GOLDEN = (
    filled(2, 2, 5, step=0.5),
    filled(2, 2, step=0.8),
    torch.tensor([[4, 3, 0.5, -1], [2, 2, 0.2, 0.3]], dtype=torch.float64),
)
MASKED = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 1]]).bool()
OFFSETS = torch.tensor([0, 3])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [([0, 1, 2, 3], 1.5810263), ([0, 1], 1.7707292), ([2, 3], 1.3913234), ([], 0)],
)
def test_reconstruction_has_the_golden_values(columns: list[int], expected: float) -> None:
    masked = torch.zeros_like(MASKED)
    masked[:, columns] = MASKED[:, columns]
    found, any_found = reconstruction_loss(*GOLDEN, masked, OFFSETS)
    # they are of log(p + 1e-8)
    assert found.item() == pytest.approx(expected, abs=2e-7)
    assert any_found == bool(columns)


STEPS = (
    torch.tensor([[[1.0, 1], [0, 0], [5, 5]], [[nan, nan], [2, 2], [0, 4]]]).double(),
    torch.tensor([[[1.0, 3], [9, 9], [nan, nan]], [[9, 9], [2, 2], [3, 0]]]).double(),
)
"""Guessed and true ones. Masked are (0, 0): (0 + 4) / 2;  (0, 2), which is empty;  (1, 1): 0;
(1, 2): (9 + 16) / 2. So the mean is 14.5 / 3."""
MASKED_STEPS = torch.tensor([[True, False, True], [False, True, True]])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([0, 1, 2, 3], (1.7707292 + 1.3913234 + 14.5 / 3) / 3),
        ([2, 3], (1.3913234 + 14.5 / 3) / 2),
        ([], 14.5 / 3),
    ],
)
def test_masked_steps_are_a_third_kind_by_hand(columns: list[int], expected: float) -> None:
    masked = torch.zeros_like(MASKED)
    masked[:, columns] = MASKED[:, columns]
    everywhere = torch.cat([masked, MASKED_STEPS], dim=1)
    found, any_found = reconstruction_loss(*GOLDEN, everywhere, OFFSETS, STEPS)
    assert found.item() == pytest.approx(expected, abs=2e-7) and any_found


def test_steps_without_any_column_are_told_alone_and_teach_the_masked_ones_alone() -> None:
    guess = STEPS[0].nan_to_num(7).requires_grad_()
    nothing = torch.zeros(2, 0, 0), torch.zeros(2, 0), torch.zeros(2, 0)
    no_offsets, steps = torch.zeros(0, dtype=torch.long), (guess, STEPS[1])
    found, _ = reconstruction_loss(*nothing, MASKED_STEPS, no_offsets, steps)
    assert found.item() == pytest.approx(14.5 / 3)
    found.backward()
    assert guess.grad is not None
    # 2 (guess - true) / Fs / 3 masked steps
    assert guess.grad[0, 0].tolist() == pytest.approx([0, -2 / 3])
    assert guess.grad.any(dim=2).tolist() == [[True, False, False], [False, False, True]]
    found, any_found = reconstruction_loss(*nothing, MASKED_STEPS & False, no_offsets, steps)
    assert found == 0 and not any_found


def test_reconstruction_teaches_the_masked_cells_alone() -> None:
    levels, numbers = (x.clone().requires_grad_() for x in GOLDEN[:2])
    reconstruction_loss(levels, numbers, GOLDEN[2], MASKED, OFFSETS)[0].backward()
    assert levels.grad is not None and numbers.grad is not None
    assert levels.grad.any(dim=2).tolist() == MASKED[:, :2].tolist()
    assert (numbers.grad != 0).tolist() == MASKED[:, 2:].tolist()


def test_nothing_masked_is_no_loss_and_no_gradient() -> None:
    # 0 / 0 in the public code
    levels, numbers = (x.clone().requires_grad_() for x in GOLDEN[:2])
    cells = torch.full_like(GOLDEN[2], nan)
    found, any_found = reconstruction_loss(levels, numbers, cells, MASKED, OFFSETS)
    found.backward()
    assert found == 0 and not any_found
    for leaf in (levels, numbers):
        assert leaf.grad is not None and not leaf.grad.any()


def test_empty_cells_and_unknown_levels_are_not_to_be_told() -> None:
    levels, numbers, cells = GOLDEN
    spoiled = cells.clone()
    spoiled[0, 0], spoiled[0, 3] = (
        nan,
        nan,
    )  # of the masked ones, (1, 1), (0, 2) and (1, 3) are left
    found, _ = reconstruction_loss(levels, numbers, spoiled, MASKED, OFFSETS)
    category = -levels[1, 1].log_softmax(0)[3]
    number = ((numbers - cells[:, 2:]) ** 2)[[0, 1], [0, 1]].mean()
    torch.testing.assert_close(found, (category + number) / 2)
    unknown = cells.clone()
    unknown[:, :2] = 1
    torch.testing.assert_close(
        reconstruction_loss(levels, numbers, unknown, MASKED, OFFSETS)[0],
        torch.tensor(1.3913234, dtype=torch.float64),
    )


def test_the_levels_of_a_column_begin_after_those_of_the_columns_before() -> None:
    levels = torch.zeros(1, 2, 5, requires_grad=True)
    cells, masked = torch.tensor([[2.0, 3.0]]), torch.tensor([[False, True]])
    reconstruction_loss(levels, torch.zeros(1, 0), cells, masked, OFFSETS)[0].backward()
    assert levels.grad is not None
    torch.testing.assert_close(levels.grad[0, 1], torch.tensor([0.2, 0.2, 0.2, 0.2, -0.8]))


def test_terms_without_a_sample_are_left_out_of_the_mean() -> None:
    values = torch.tensor([1.0, nan, 4.0])
    assert mean_of_found(values, torch.tensor([True, False, True])) == 2.5
    assert mean_of_found(values, torch.tensor([False] * 3)) == 0
