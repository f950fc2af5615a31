"""Time series as tokens: values by hand, and what a token may know."""

from math import nan

import pytest
import torch
from samples import KINDS, MIXED, make_batch
from torch import Tensor

from dfpl.encoders.series import (
    StepEmbedding,
    filled_steps,
    seen_by_all,
    token_mean,
    valid_steps,
    valid_tokens,
)
from dfpl.encoders.tabular import CellEmbedding, TabularEncoder, table_of

SCHEMA = KINDS["series"]
"""4 steps of 2 channels, and no columns."""


def test_steps_are_valid_up_to_the_length_and_empty_where_all_channels_are() -> None:
    series = torch.tensor([[[nan, nan], [1, nan], [2, 3]], [[nan, nan], [nan, nan], [4, 5]]])
    length = torch.tensor([3, 1])
    assert valid_steps(series, length).tolist() == [[True, True, True], [True, False, False]]
    assert filled_steps(series, length).tolist() == [[False, True, True], [False, False, False]]


def test_a_mean_over_valid_tokens_by_hand() -> None:
    tokens = torch.tensor([[1.0, 2, 6], [nan, 4, nan], [nan, nan, nan]])[..., None]
    valid = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]]).bool()
    assert token_mean(tokens, valid).flatten().tolist() == [1.5, 4, 0]
    assert token_mean(tokens[:1], None).item() == 3


def test_a_token_sees_the_valid_ones_and_itself() -> None:
    tokens, valid = torch.zeros(1, 3, 2), torch.tensor([[True, False, True]])
    assert seen_by_all(tokens, valid)[0].int().tolist() == [[1, 0, 1], [1, 1, 1], [1, 0, 1]]
    assert seen_by_all(tokens, None).all() and seen_by_all(tokens, None).shape == (1, 3, 3)


def test_the_class_token_and_the_columns_are_valid_and_no_step_of_an_absent_table() -> None:
    batch = make_batch([(1, 1), (1, 0), (1, 1)], schema=KINDS["columns and series"])
    batch = batch._replace(length=torch.tensor([4, 3, 2]))
    columns = 1 + 2 + 2
    expected = [[1] * columns + steps for steps in ([1, 1, 1, 1], [0] * 4, [1, 1, 0, 0])]
    found = valid_tokens(batch)
    assert found is not None and found.int().tolist() == expected
    assert valid_tokens(make_batch(MIXED)) is None


@torch.no_grad()
def test_a_step_is_a_map_of_its_channels_or_the_empty_vector_and_its_position() -> None:
    embed = StepEmbedding(SCHEMA, 2)
    embed.channels.weight.copy_(torch.tensor([[1.0, 0], [1, 10]]))
    embed.channels.bias.copy_(torch.tensor([0.5, 0]))
    embed.position.weight.copy_(torch.tensor([[100.0, 100], [200, 200], [300, 300], [400, 400]]))
    series = torch.tensor([[[1.0, 2], [nan, nan], [3, 4], [nan, 7]]])
    filled = torch.tensor([[True, False, True, False]])
    found = embed(series, filled, torch.tensor([-1.0, -2]))
    assert found[0].tolist() == [[101.5, 121], [199, 198], [303.5, 343], [399, 398]]


def make_encoder(kind: str) -> TabularEncoder:
    torch.manual_seed(0)
    encoder = TabularEncoder(KINDS[kind], 16, (1, 1), 2, "zeros").eval()
    for module in (encoder.embed.column, encoder.embed.steps):
        assert module is not None
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
    torch.nn.init.normal_(encoder.embed.empty)
    return encoder


def visible(embed: CellEmbedding, series: Tensor, length: int) -> list[list[int]]:
    nothing = torch.zeros(1, 0), torch.zeros(1, 0, dtype=torch.long)
    return embed(*nothing, series, torch.tensor([length]))[1][0].int().tolist()


def test_an_empty_step_and_padding_are_seen_by_themselves_alone() -> None:
    series = torch.randn(1, 4, 2)
    series[0, 1] = nan
    assert visible(make_encoder("series").embed, series, 3) == [
        [1, 1, 0, 1, 0],  # the class token, four steps
        [1, 1, 0, 1, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


@torch.no_grad()
def test_an_empty_step_is_the_empty_vector_and_is_not_one_of_zeros() -> None:
    encoder = make_encoder("series")
    batch = make_batch([(1, 1)], schema=SCHEMA)
    batch = batch._replace(series=torch.ones(1, 4, 2), length=torch.tensor([4]))
    for number in (0.0, nan):
        batch.series[0, 1] = number
        tokens, _ = encoder.embed(*table_of(batch))
        assert encoder.embed.steps is not None
        content = encoder.embed.steps.channels.bias if number == 0 else encoder.embed.empty
        expected = encoder.embed.norm(content + encoder.embed.steps.position.weight[1])
        torch.testing.assert_close(tokens[0, 2], expected)


@pytest.mark.parametrize("kind", ["series", "columns and series"])
@torch.no_grad()
def test_the_tokens_are_those_of_the_valid_steps_alone(kind: str) -> None:
    """Without any mask, from a series that ends there."""
    encoder = make_encoder(kind)
    batch = make_batch([(1, 1)] * 2, schema=KINDS[kind])
    batch = batch._replace(
        numeric=batch.numeric.nan_to_num(0.3),
        category=batch.category + 2,
        series=batch.series.nan_to_num(0.7),
        length=torch.tensor([2, 2]),
    )
    found = encoder(batch, torch.ones(2, dtype=torch.bool))
    columns = 1 + batch.numeric.shape[1] + batch.category.shape[1]
    embed = encoder.embed
    assert embed.steps is not None
    steps = embed.steps.channels(batch.series[:, :2]) + embed.steps.position.weight[:2]
    cells = embed(*table_of(batch))[0][:, :columns]
    tokens = torch.cat([cells, embed.norm(steps)], dim=1)
    everything = torch.ones(2, columns + 2, columns + 2, dtype=torch.bool)
    lower = encoder.lower[0](tokens, everything)
    for branch, blocks in zip(found, (encoder.shared, encoder.specific), strict=True):
        torch.testing.assert_close(branch[:, : columns + 2], blocks[0](lower, everything))
