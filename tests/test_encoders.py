"""Encoders: the layout of the networks, and what a token may know."""

from typing import Any

import pytest
import torch
from samples import MIXED, SCHEMA, make_batch, no_series

from dfpl.data.batch import Batch
from dfpl.encoders import EncodeMissing, Tokens, encode_present
from dfpl.encoders.image import ImageEncoder, ImageSplit
from dfpl.encoders.tabular import TabularEncoder, table_of

EVERYONE = torch.ones(1, dtype=torch.bool)


def size(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.fixture(scope="module")
def resnet50() -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder("resnet50", "layer3", 8, "zeros").eval()


def test_resnet50_has_the_layout_of_torchvision(resnet50: ImageEncoder) -> None:
    # one branch with a head of 1,000 classes: 2048 * 1000 weights and 1000 biases
    assert size(resnet50.lower, resnet50.shared) + 2048 * 1000 + 1000 == 25_557_032
    assert size(resnet50.specific) == size(resnet50.shared) == 14_964_736  # layer4
    assert size(resnet50.shared_map) == 2048 * 8 + 8


@pytest.mark.parametrize(("pixels", "tokens"), [(128, 16), (224, 49)])
@torch.no_grad()
def test_resnet50_gives_a_token_per_cell(resnet50: ImageEncoder, pixels: int, tokens: int) -> None:
    found = resnet50(torch.rand(1, 3, pixels, pixels), EVERYONE)
    assert found.shared.shape == found.specific.shape == (1, tokens, 8)


@pytest.mark.parametrize(
    ("split", "lower", "branch"),
    [("stem", 1, 4), ("layer1", 2, 3), ("layer2", 3, 2), ("layer3", 4, 1)],
)
def test_the_split_moves_the_parting_of_the_branches(
    split: ImageSplit, lower: int, branch: int
) -> None:
    encoder = ImageEncoder("small", split, 8, "zeros")
    assert (len(encoder.lower), len(encoder.shared), len(encoder.specific)) == (
        lower,
        branch,
        branch,
    )
    whole = ImageEncoder("small", "layer3", 8, "zeros")
    assert size(encoder.lower, encoder.shared) == size(whole.lower, whole.shared)
    assert encoder(torch.rand(2, 3, 64, 64), EVERYONE.expand(2)).shared.shape == (2, 16, 8)


def test_the_branches_start_apart_and_share_no_parameter() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder("small", "layer3", 8, "zeros")
    shared, specific = list(encoder.shared.parameters()), list(encoder.specific.parameters())
    assert not {id(p) for p in shared} & {id(p) for p in specific}
    assert not torch.equal(shared[0], specific[0])


def test_resnet18_has_the_layout_of_torchvision() -> None:
    encoder = ImageEncoder("resnet18", "layer3", 8, "zeros")
    assert size(encoder.lower, encoder.shared) + 512 * 1000 + 1000 == 11_689_512


def tabular(missing: EncodeMissing = "zeros", **schema: Any) -> TabularEncoder:
    torch.manual_seed(0)
    encoder = TabularEncoder(SCHEMA.with_values(schema), 16, (1, 1), 2, missing).eval()
    torch.nn.init.normal_(encoder.embed.column.weight)
    torch.nn.init.normal_(encoder.embed.empty)
    return encoder


def table(numeric: torch.Tensor, category: torch.Tensor) -> Batch:
    """A batch of these cells."""
    batch = make_batch([(1, 1)] * len(numeric))
    return batch._replace(numeric=numeric, category=category, **no_series(len(numeric)))


NUMERIC, CATEGORY = torch.tensor([[1.0, torch.nan]]), torch.tensor([[2, 0]])
CLS, COLOUR, SHAPE, LENGTH, WEIGHT = range(5)  # the tokens; SHAPE and WEIGHT are empty here


@torch.no_grad()
def test_an_empty_cell_is_seen_by_itself_alone() -> None:
    encoder = tabular()
    _, visible = encoder.embed(*table_of(table(NUMERIC, CATEGORY)))
    everyone = [True, True, False, True, False]
    assert visible[0].tolist() == [
        everyone,
        everyone,
        [True, True, True, True, False],
        everyone,
        [True, True, False, True, True],
    ]
    before = encoder(table(NUMERIC, CATEGORY), EVERYONE)
    encoder.embed.empty.add_(1)
    for tokens, other in zip(before, encoder(table(NUMERIC, CATEGORY), EVERYONE), strict=True):
        changed = (tokens != other).any(dim=2)[0]
        assert changed.tolist() == [False, False, True, False, True]


@torch.no_grad()
def test_every_filled_cell_counts() -> None:
    encoder = tabular()
    before = encoder(table(NUMERIC, CATEGORY), EVERYONE).shared[0, CLS]
    for numeric, category in (
        (torch.tensor([[1.5, torch.nan]]), CATEGORY),
        (torch.tensor([[1.0, 0.0]]), CATEGORY),  # the mean is not an empty cell
        (NUMERIC, torch.tensor([[3, 0]])),
        (NUMERIC, torch.tensor([[2, 1]])),  # a level never seen is not an empty cell
    ):
        assert not torch.equal(before, encoder(table(numeric, category), EVERYONE).shared[0, CLS])


@torch.no_grad()
def test_a_level_never_seen_is_its_column_alone() -> None:
    embed = tabular().embed
    tokens, _ = embed(*table_of(table(NUMERIC, torch.tensor([[1, 1]]))))
    torch.testing.assert_close(tokens[0, SHAPE], embed.norm(embed.column.weight[SHAPE]))
    torch.testing.assert_close(tokens[0, COLOUR], embed.norm(embed.column.weight[COLOUR]))


@torch.no_grad()
def test_columns_do_not_share_their_levels() -> None:
    # blue, red, flat, round, tall are codes 2, 3 and 2, 3, 4
    embed = tabular().embed
    assert embed.levels.weight.shape == (5, 16)
    tokens, _ = embed(*table_of(table(NUMERIC, torch.tensor([[3, 4]]))))
    expected = embed.norm(embed.levels.weight[[1, 4]] + embed.column.weight[[COLOUR, SHAPE]])
    torch.testing.assert_close(tokens[0, [COLOUR, SHAPE]], expected)


@pytest.mark.parametrize(
    ("schema", "tokens"), [({"category": {}}, 3), ({"numeric": []}, 3), ({}, 5)]
)
def test_tables_of_one_kind_of_column(schema: dict[str, Any], tokens: int) -> None:
    encoder = tabular(**schema).train()
    numeric = torch.randn(3, 0 if "numeric" in schema else 2)
    category = torch.full((3, 0 if "category" in schema else 2), 2)
    found = encoder(table(numeric, category), EVERYONE.expand(3))
    assert found.shared.shape == (3, tokens, 16)
    found.shared.sum().backward()
    assert all(
        p.grad is not None for p in encoder.embed.parameters() if p is not encoder.embed.empty
    )


def test_a_column_without_levels_is_possible() -> None:
    encoder = tabular(category={"colour": [], "shape": ["flat"]})
    assert encoder(table(NUMERIC, torch.tensor([[1, 2]])), EVERYONE).shared.isfinite().all()


def assert_close(one: Tokens, other: Tokens, rows: torch.Tensor) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a[rows], b[rows], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_skipping_absent_samples_gives_the_present_ones_the_same_tokens() -> None:
    batch = make_batch(MIXED)
    has_image, has_table = batch.available.unbind(dim=1)
    zeros, skip = tabular("zeros"), tabular("skip")
    cells = (batch, has_table)
    assert_close(zeros(*cells), skip(*cells), has_table)
    assert not skip(*cells).shared[~has_table].any()
    torch.manual_seed(0)
    encoder = ImageEncoder("small", "layer3", 8, "zeros").eval()
    expected = encoder(batch.image, has_image)
    encoder.missing = "skip"
    found = encoder(batch.image, has_image)
    assert_close(expected, found, has_image)
    assert not found.specific[~has_image].any()


@pytest.mark.parametrize("missing", ["zeros", "skip"])
def test_the_encoder_sees_zeros_or_nothing_for_an_absent_sample(missing: EncodeMissing) -> None:
    seen: list[torch.Tensor] = []

    def spy(value: torch.Tensor) -> Tokens:
        seen.append(value)
        return Tokens(value, value)

    value = torch.tensor([1.0, torch.nan, 3.0]).view(3, 1, 1)
    encode_present(spy, (value,), torch.tensor([True, False, True]), missing)
    assert seen[0].flatten().tolist() == ([1, 0, 3] if missing == "zeros" else [1, 3])


@pytest.mark.parametrize("missing", ["zeros", "skip"])
def test_a_batch_without_any_image_leaves_the_encoder_whole(missing: EncodeMissing) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder("small", "layer3", 8, missing)
    found = encoder(torch.full((4, 3, 32, 32), torch.nan), torch.zeros(4, dtype=torch.bool))
    (found.shared.sum() + found.specific.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert all(buffer.isfinite().all() for buffer in encoder.buffers())
