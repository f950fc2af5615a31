"""IM-Fuse: the order of the tokens, what is left of an absent modality, and its terms."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks import assert_all_learn
from samples import MIXED, SCHEMA, SMALL, make_batch

from dfpl.baselines.im_fuse import (
    SEARCH_SPACE,
    Config,
    Model,
    PositionedLayer,
    average_to,
    even,
    interleave,
)
from dfpl.encoders.image import ImageNetwork, PlainImageEncoder, count_tokens
from dfpl.fields import Choice, ConfigError
from dfpl.method import STATES, Method, objective
from dfpl.noise import StepNoise


def make_model(schema: Any = SCHEMA, **values: Any) -> Model:
    torch.manual_seed(0)
    small = {name: value for name, value in SMALL.items() if name in Config.model_fields}
    return Model(
        Config.from_dict({**small, "tabular_depth": 1, "name": "im_fuse", **values}), schema
    )


def test_the_tokens_come_in_turn() -> None:
    image, tabular, query = (torch.arange(3.0).view(1, 3, 1) + 10 * k for k in range(3))
    found = interleave(image, tabular, query)
    assert found.flatten().tolist() == [0, 10, 20, 1, 11, 21, 2, 12, 22]
    for part, expected in enumerate((image, tabular, query)):
        assert torch.equal(found[:, part::3], expected)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((17, 17), (17, 17)),
        ((50, 25), (50, 25)),
        ((16, 4), (16, 4)),
        ((17, 4), (8, 4)),
        ((4, 17), (4, 8)),
        ((50, 1), (2, 1)),
    ],
)
def test_only_a_far_longer_sequence_is_shortened(
    lengths: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert even(*lengths) == expected


def test_averages_by_hand() -> None:
    tokens = torch.tensor([1.0, 3, 5, 7]).view(1, 4, 1)
    assert average_to(tokens, 2).flatten().tolist() == [2, 6]
    assert average_to(tokens, 4) is tokens


@pytest.mark.parametrize(
    ("network", "size"), [("small", 16), ("small", 33), ("small", 64), ("resnet18", 65)]
)
@torch.no_grad()
def test_the_cells_of_an_image_are_counted(network: ImageNetwork, size: int) -> None:
    encoder = PlainImageEncoder(network, 8, "zeros").eval()
    tokens = encoder(torch.zeros(1, 3, size, size), torch.ones(1, dtype=torch.bool))
    assert tokens.shape[1] == count_tokens(network, size)


def test_the_sequences_of_the_paper_need_no_filling() -> None:
    # DVM: 4 x 4 cells and their mean, 17 columns
    assert count_tokens("resnet50", 128) + 1 == 17
    assert count_tokens("resnet50", 224) + 1 == 50


def fused_inputs(model: Model, available: list[tuple[int, int]]) -> torch.Tensor:
    """What the Mamba block is given."""
    seen: list[torch.Tensor] = []
    handle = model.fusion.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model(make_batch(available))
    handle.remove()
    return seen[0]


@torch.no_grad()
def test_an_absent_modality_leaves_zeros_and_nothing_else() -> None:
    model = make_model().eval()
    both, image, table = fused_inputs(model, [(1, 1), (1, 0), (0, 1)])
    assert len(both) == 3 * 5  # 4 cells and their mean; 4 columns and a filling
    assert both[0::3].any(dim=1).all() and both[1::3].any(dim=1).tolist() == [True] * 4 + [False]
    assert image[0::3].any(dim=1).all() and not image[1::3].any()
    assert table[1::3].any() and not table[0::3].any()
    for sequence in (both, image, table):
        assert torch.equal(sequence[2::3], model.query)


@torch.no_grad()
def test_the_cls_token_does_not_go_on_and_the_mean_of_the_image_does() -> None:
    model, batch = make_model().eval(), make_batch([(1, 1)] * 2)
    cells = model.image_encoder(batch.image, batch.available[:, 0])
    columns = model.tabular_encoder(batch, batch.available[:, 1])
    seen: list[Any] = []
    for layer in (model.image_layer, model.tabular_layer):
        layer.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model(batch)
    torch.testing.assert_close(seen[0], torch.cat([cells.mean(1, keepdim=True), cells], dim=1))
    torch.testing.assert_close(seen[1], columns[:, 1:])


@pytest.mark.parametrize("absent", [0, 1])
def test_the_encoder_of_a_modality_absent_throughout_gets_no_gradient(absent: int) -> None:
    model = make_model()
    batch = make_batch([(0, 1) if absent == 0 else (1, 0)] * 4)
    objective(model, model.losses(model(batch), batch)).backward()
    encoder = (model.image_encoder, model.tabular_encoder)[absent]
    assert not any(p.grad is not None and p.grad.any() for p in encoder.parameters())


def test_the_terms_are_means_over_those_that_have_the_modality() -> None:
    model, batch = make_model(task_loss="ce"), make_batch(MIXED)
    output = model(batch)
    terms = model.losses(output, batch)
    assert list(terms) == ["task", "image_task", "tabular_task"]
    torch.testing.assert_close(terms["task"], F.cross_entropy(output.logits, batch.label))
    for column, logits in enumerate((output.image_logits, output.tabular_logits)):
        there = batch.available[:, column]
        expected = F.cross_entropy(logits[there], batch.label[there])
        torch.testing.assert_close(list(terms.values())[1 + column], expected)
    total = terms["task"] + terms["image_task"] + terms["tabular_task"]
    torch.testing.assert_close(objective(model, terms), total)


def test_the_unimodal_predictions_share_one_head() -> None:
    model, batch = make_model().eval(), make_batch([(1, 1)] * 3)
    torch.nn.init.zeros_(model.unimodal.weight)
    output = model(batch)
    assert torch.equal(output.image_logits, output.tabular_logits)
    assert not torch.equal(output.logits, output.image_logits)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer, noise = PositionedLayer(20, 16, 2, 0.25), StepNoise()
    ones = torch.ones(100, 20, 16)
    found = layer._drop(ones, noise, 0)
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(found[found > 0].unique(), torch.tensor([1 / 0.75]))
    assert torch.equal(layer.eval()._drop(ones, noise, 0), ones)


def test_each_step_drops_anew_and_repeats_itself() -> None:
    model, batch = make_model(dropout=0.5), make_batch(MIXED)
    first = model(batch).logits
    assert torch.equal(first, model(batch).logits)
    model.after_step()
    assert not torch.equal(first, model(batch).logits)


def test_dropped_modalities_are_hidden_in_training_alone() -> None:
    model = make_model(drop="all", dropout=0.0)
    inputs = fused_inputs(model, [(1, 1)] * 20)
    states = {(bool(x[0::3].any()), bool(x[1::3].any())) for x in inputs}
    assert states == set(STATES.values())
    inputs = fused_inputs(model.eval(), [(1, 1)] * 20)
    assert inputs[:, 0::3].flatten(1).any(dim=1).all()


def test_one_pass_over_the_states_equals_three_forward_passes() -> None:
    model, batch = make_model().eval(), make_batch([(1, 1)] * 4)
    for state, logits in Method.state_logits(model, batch).items():
        torch.testing.assert_close(model.state_logits(batch)[state], logits, rtol=1e-5, atol=1e-6)


def test_saved_weights_go_on_with_the_same_draws() -> None:
    first, second, batch = make_model(), make_model(), make_batch(MIXED)
    first.after_step()
    assert not torch.equal(first(batch).logits, second(batch).logits)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(batch).logits, second(batch).logits)


def test_a_table_of_one_column() -> None:
    model = make_model(SCHEMA.with_values({"numeric": ["length"], "category": {}}))
    batch = make_batch([(1, 1), (1, 0), (0, 1)])
    batch = batch._replace(numeric=batch.numeric[:, :1], category=batch.category[:, :0])
    assert model.lengths == (2, 1)
    assert model(batch).logits.isfinite().all()


@pytest.mark.parametrize("width", [256, 512])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_sizes_of_the_paper(width: int, task: str) -> None:
    schema = SCHEMA.with_values({"task": task})
    model = make_model(schema, width=width, tabular_heads=8, task_loss="ce")
    batch = make_batch([(1, 1), (1, 0), (0, 1)])
    if task == "multilabel":
        batch = batch._replace(label=torch.eye(3)[batch.label])
    terms = model.losses(model(batch), batch)
    assert all(term.isfinite() for term in terms.values())
    layer = sum(p.numel() for p in model.fused_layer.parameters())
    D, P = width, 5  # qkv, projection, two maps of 8 D, two norms, positions
    assert layer == 3 * D * D + (D * D + D) + (16 * D * D + 9 * D) + 4 * D + P * D
    assert model.task_loss == ("bce" if task == "multilabel" else "ce")


def test_many_states_train_every_parameter() -> None:
    model, batch = make_model(num_states=20), make_batch(MIXED)
    assert_all_learn(model, batch)


def test_the_defaults_are_the_papers_and_lie_in_the_search_space() -> None:
    config = Config()
    assert (config.unimodal_weight, config.dropout, config.drop) == (1.0, 0.1, "none")
    for name, wanted in SEARCH_SPACE.items():
        value = getattr(config, name.removeprefix("method."))
        if isinstance(wanted, Choice):
            assert value in wanted.values
        else:
            assert wanted.low <= value <= wanted.high


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.width must be a multiple"):
        Config.from_dict({"width": 20}, "method.")
