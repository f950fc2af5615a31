"""The plain transformer: what its tokens see, and that a present one counts and an absent not."""

from typing import Any

import pytest
import torch
from samples import MIXED, SCHEMA, SMALL, make_batch

from dfpl.baselines.masked_transformer import Config, Model, visible_tokens


def make_model(**values: Any) -> Model:
    torch.manual_seed(0)
    small = {name: value for name, value in SMALL.items() if name in Config.model_fields}
    return Model(Config.from_dict({**small, **values, "name": "masked_transformer"}), SCHEMA)


def made_up_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """Of one sample: 4 of the image, 5 of the table."""
    generator = torch.Generator().manual_seed(0)
    image, tabular = torch.randn(1, 9, 16, generator=generator).split([4, 5], dim=1)
    return image.requires_grad_(), tabular.requires_grad_()


def test_a_token_sees_the_class_token_and_those_of_available_modalities() -> None:
    visible = visible_tokens(torch.tensor([[1, 1], [1, 0], [0, 1]]).bool(), 2, 1).int()
    rows = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 1]]
    assert visible.tolist() == [[row] * 4 for row in rows]


@pytest.mark.parametrize("available", [(1, 1), (1, 0), (0, 1)])
def test_every_token_that_is_there_counts_and_no_other(available: tuple[int, int]) -> None:
    model, sides = make_model(), made_up_tokens()
    model._fuse(*sides, torch.tensor([available]).bool())[0, 0].backward()
    for side, there in zip(sides, available, strict=True):
        assert side.grad is not None
        assert side.grad.any(dim=2).all() if there else not side.grad.any()


def test_absent_tokens_masked_equal_absent_tokens_left_out() -> None:
    """The transformer without the table's tokens: a sequence of the class token and the image."""
    model = make_model(depth=3).eval()
    image, tabular = made_up_tokens()
    found = model._fuse(image, tabular, torch.tensor([[True, False]]))
    tokens = torch.cat([model.cls[None], image], dim=1)
    for block in model.blocks:
        tokens = block(tokens, torch.ones(1, 5, 5, dtype=torch.bool))
    expected = model.classifier(model.norm(tokens[:, 0]))
    torch.testing.assert_close(found, expected)


def test_the_images_cells_are_told_apart_and_the_modalities_too() -> None:
    """Without positions and modality embeddings the order of tokens would not matter."""
    model, batch = make_model().eval(), make_batch([(1, 1)])
    with torch.no_grad():
        model.position.normal_()
        image, tabular = model._encode(batch)
    cells = model.image_encoder(batch.image, batch.available[:, 0])
    expected = cells + model.position + model.modality[0]
    torch.testing.assert_close(image, expected)
    columns = model.tabular_encoder(batch, batch.available[:, 1])
    torch.testing.assert_close(tabular, columns + model.modality[1])
    assert image.shape == (1, 4, 16) and tabular.shape == (1, 5, 16)


def test_the_fusion_of_both_is_not_what_either_says() -> None:
    model, batch = make_model().eval(), make_batch([(1, 1)] * 3)
    found = model.state_logits(batch)
    for state in ("image", "tabular"):
        assert (found["both"] - found[state]).abs().max() > 1e-3


def test_its_terms_are_the_task_alone() -> None:
    model, batch = make_model(task_loss="ce"), make_batch(MIXED)
    output = model(batch)
    expected = torch.nn.functional.cross_entropy(output.logits, batch.label)
    terms = model.losses(output, batch)
    assert list(terms) == ["task"]
    torch.testing.assert_close(terms["task"], expected)
