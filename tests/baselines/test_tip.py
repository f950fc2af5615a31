"""TIP: what a missing modality is in both variants, the two stages, and what pre-training reads."""

import inspect
from collections.abc import Callable, Iterator
from math import nan
from pathlib import Path
from typing import Any

import pytest
import test_method
import test_one_pass
import torch
import workers
from samples import KINDS, MIXED, SCHEMA, SMALL, make_batch, make_packed, make_run, no_series
from torch import Tensor
from torch.nn.functional import normalize

from dfpl.baselines.tip import (
    PARTS,
    SEARCH_SPACE,
    Config,
    Model,
    MultimodalEncoder,
    num_corrupted,
    num_masked,
)
from dfpl.compute import Compute
from dfpl.config import OptimConfig, RunConfig
from dfpl.data.batch import Batch
from dfpl.data.packed import UNSEEN, Schema
from dfpl.distributed import world_size
from dfpl.encoders.tabular import CellEmbedding
from dfpl.fields import ConfigError
from dfpl.method import objective
from dfpl.step import Stepper
from dfpl.train import Runtime, fit, learning_rates

VARIANTS = ("zero", "native")
CASES = [
    *((variant, 0.0, 0) for variant in VARIANTS),
    *((variant, 0.5, stage) for variant in VARIANTS for stage in (0, 1)),
]
"""Variant, share of pre-training, stage."""
CONTRACT = {
    name: test
    for name, test in inspect.getmembers(test_method, inspect.isfunction)
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["method"]
}
PACKED = {kind: make_packed(30, kind=kind) for kind in ("", *KINDS) if kind != "volumes"}
SERIES = KINDS["series"]


def make_model(schema: Any = SCHEMA, stage: int | None = None, **values: Any) -> Model:
    torch.manual_seed(0)
    small = {name: value for name, value in SMALL.items() if name in Config.model_fields}
    depths = {"tabular_depth": 1, "fusion_depth": 2}
    model = Model(Config.from_dict({**small, **depths, "name": "tip", **values}), schema)
    if stage is not None:
        model.enter(stage)
    return model


def pretrained(**values: Any) -> Model:
    """A model in its first stage."""
    return make_model(stage=0, **{"pretraining": 0.5, **values})


def inputs_of(module: torch.nn.Module, run: Callable[[], Any]) -> list[tuple[Any, ...]]:
    """What the module is given while something runs."""
    seen: list[tuple[Any, ...]] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    run()
    handle.remove()
    return seen


@pytest.mark.parametrize("test", CONTRACT.values(), ids=CONTRACT)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_variants_keep_the_contract_in_all_stages(case: Any, test: Any) -> None:
    variant, share, stage = case
    test(make_model(stage=stage, variant=variant, pretraining=share))


@pytest.mark.parametrize("corner", test_method.CORNERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_variants_are_finite_at_the_corners(case: Any, corner: str) -> None:
    variant, share, stage = case
    model = make_model(stage=stage, variant=variant, pretraining=share)
    test_method.test_losses_and_gradients_are_finite_at_the_corners(model, corner)
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle  # a distributed wrapper would wait for them


@pytest.mark.parametrize("data", test_one_pass.DATA)
def test_one_pass_over_the_states_is_right_for_the_native_variant(data: str) -> None:
    model = make_model(make_packed().schema, variant="native")
    test_one_pass.test_a_look_up_equals_hiding_the_inputs(model, data, 7)


@torch.no_grad()
def test_zero_is_a_literal_zero_image_and_table() -> None:
    model = make_model().eval()
    table, image = make_batch([(0, 1)]), make_batch([(1, 0)])
    black = table._replace(image=torch.zeros(1, 3, 32, 32), available=torch.ones(1, 2).bool())
    assert torch.equal(model(table).logits, model(black).logits)
    mean = torch.zeros(1, 2), torch.full((1, 2), UNSEEN)
    blank = image._replace(numeric=mean[0], category=mean[1], available=torch.ones(1, 2).bool())
    assert torch.equal(model(image).logits, model(blank).logits)


@torch.no_grad()
def test_a_zero_category_is_the_zero_vector_and_no_level() -> None:
    model = make_model()
    found = model._table(make_batch([(1, 0)]))
    assert found.category.tolist() == [[UNSEEN, UNSEEN]] and found.numeric.tolist() == [[0, 0]]
    embed = model.tabular_encoder.embed
    assert not embed._category(torch.full((1, 2), UNSEEN))[0].any()
    cells = torch.zeros(1, 2), torch.full((1, 2), UNSEEN)
    _, visible = embed(*cells, *no_series(1).values())
    assert visible.all()  # nothing masks them


@torch.no_grad()
def test_a_natively_missing_table_is_one_of_empty_cells() -> None:
    model = make_model(variant="native").eval()
    image = make_batch([(1, 0)])
    empty = image._replace(
        numeric=torch.full((1, 2), nan),
        category=torch.zeros(1, 2, dtype=torch.long),
        available=torch.ones(1, 2).bool(),
    )
    assert torch.equal(model(image).logits, model(empty).logits)
    seen = inputs_of(model.tabular_encoder.embed, lambda: model(image))[0]
    assert seen[0].isnan().all() and not seen[1].any()


@pytest.mark.parametrize(("variant", "steps"), [("zero", 4), ("native", 0)])
@torch.no_grad()
def test_a_missing_series_is_all_steps_of_zeros_or_natively_none(variant: str, steps: int) -> None:
    model = make_model(SERIES, variant=variant).eval()
    image = make_batch([(1, 0)], schema=SERIES)
    given = {"series": torch.zeros(1, 4, 2), "available": torch.ones(1, 2).bool()}
    expected = model(image).logits
    for length in range(5):
        other = model(image._replace(length=torch.tensor([length]), **given)).logits
        assert torch.equal(other, expected) == (length == steps)


@torch.no_grad()
def test_a_natively_missing_image_is_neither_encoded_nor_attended_to() -> None:
    model, batch = make_model(variant="native").eval(), make_batch([(1, 1), (0, 1), (1, 0)])
    (pixels,) = inputs_of(model.image_encoder.network, lambda: model(batch))[0]
    assert torch.equal(pixels, batch.image[[0, 2]])
    before = model(batch).logits
    layers: Any = model.fusion.layers
    for layer in layers:
        layer.cross_project.bias.add_(1)
        layer.cross_key_value.weight.mul_(2)
    changed = (model(batch).logits != before).any(dim=1)
    assert changed.tolist() == [True, False, True]


@torch.no_grad()
def test_all_images_are_encoded_by_the_zero_variant() -> None:
    model, batch = make_model().eval(), make_batch([(1, 1), (0, 1)])
    (pixels,) = inputs_of(model.image_encoder.network, lambda: model(batch))[0]
    assert pixels[0].any() and not pixels[1].any() and len(pixels) == 2


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_image_counts_where_it_is(variant: str) -> None:
    model, batch = make_model(variant=variant).eval(), make_batch([(1, 1), (0, 1)])
    other = batch._replace(image=batch.image + 1)
    changed = (model(batch).logits != model(other).logits).any(dim=1)
    assert changed.tolist() == [True, False]


@pytest.mark.parametrize("missing", [(1, 0), (0, 1)])
def test_what_is_natively_missing_throughout_teaches_its_encoder_nothing(
    missing: tuple[int, int],
) -> None:
    model, batch = make_model(variant="native"), make_batch([missing] * 3)
    objective(model, model.losses(model(batch), batch)).backward()
    unread = model.tabular_encoder.embed.number if missing[0] else model.image_encoder
    assert not any(p.grad is not None and p.grad.any() for p in unread.parameters())


DVM = SCHEMA.with_values(
    {
        "numeric": [f"n{i}" for i in range(13)],
        "category": {
            f"c{i}": [str(k) for k in range(size)] for i, size in enumerate((22, 13, 3, 12))
        },
    }
)


@torch.no_grad()
def test_eighteen_tokens_of_the_table_read_sixteen_of_the_image() -> None:
    model = make_model(DVM.with_values({"image_size": 64}))
    batch = Batch(
        image=torch.randn(2, 3, 64, 64),
        numeric=torch.randn(2, 13),
        category=torch.full((2, 4), 3),
        available=torch.ones(2, 2).bool(),
        label=torch.zeros(2, dtype=torch.long),
        **no_series(2),
    )
    (columns, image, read, _) = inputs_of(model.fusion, lambda: model(batch))[0]
    assert columns.shape == (2, 18, 16) and image.shape == (2, 16, 16) and read.all()


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_fusion_has_the_size_of_the_public_code() -> None:
    fusion = MultimodalEncoder(512, heads=8, depth=4)
    D = 512
    layer = 16 * D * D + 14 * D
    assert size(fusion) == 4 * layer + 4 * D
    assert size(fusion) + (2048 + 1) * D == pytest.approx(17.86e6, abs=5e3)


@torch.no_grad()
def test_every_token_sees_every_other_in_the_fusion_even_empty_cells() -> None:
    model = make_model().eval()
    columns, image = torch.randn(1, 5, 16), torch.randn(1, 4, 16)
    read = torch.ones(1, dtype=torch.bool)
    before = model.fusion(columns, image, read)
    for position in range(5):
        other = columns.clone()
        other[0, position] += torch.randn(16)
        assert (model.fusion(other, image, read) != before).any(dim=2).all()


def test_a_layer_is_attention_to_itself_to_the_image_and_a_feed_forward_part() -> None:
    torch.manual_seed(0)
    layer: Any = make_model().fusion.layers[0].double()
    x, image = torch.randn(2, 5, 16).double(), torch.randn(2, 3, 16).double()
    found = layer(x, image, torch.tensor([True, False]))

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = []
        for q, k, v in zip(query.split(8, -1), key.split(8, -1), value.split(8, -1), strict=True):
            parts.append((q @ k.mT / 8**0.5).softmax(dim=-1) @ v)
        return torch.cat(parts, dim=-1)

    own = attend(*layer.qkv(layer.attention_norm(x)).split(16, -1))
    x = x + layer.project(own)
    seen = attend(
        layer.cross_query(layer.cross_norm(x)), *layer.cross_key_value(image).split(16, -1)
    )
    x = x + layer.cross_project(seen) * torch.tensor([1, 0])[:, None, None]
    x = x + layer.feed_forward(layer.feed_forward_norm(x))
    torch.testing.assert_close(found, x)


def test_an_empty_cell_is_hidden_from_all_but_itself_in_the_tabular_encoder() -> None:
    embed = CellEmbedding(SCHEMA.with_values({"numeric": ["a", "b", "c"], "category": {}}), 8)
    numeric, nothing = torch.tensor([[nan, 1.0, nan]]), torch.zeros(1, 0, dtype=torch.long)
    _, visible = embed(numeric, nothing, *no_series(1).values())
    assert (~visible[0]).int().tolist() == [
        [0, 1, 0, 1],
        [0, 0, 0, 1],
        [0, 1, 0, 1],
        [0, 1, 0, 0],
    ]


def learns(module: torch.nn.Module) -> set[bool]:
    return {p.requires_grad for p in module.parameters()}


def test_without_pretraining_there_is_one_stage_and_nothing_of_the_other() -> None:
    model, batch = make_model(), make_batch(MIXED)
    assert model.stages() == (0.0,) and learns(model) == {True}
    assert not [name for name in model.state_dict() if name.startswith("heads")]
    assert list(model.losses(model(batch), batch)) == ["task"]


def test_each_stage_trains_its_own_heads_and_the_network_whatever_came_before() -> None:
    model = make_model(pretraining=0.3)
    assert model.stages() == (0.0, 0.3)
    shared = (model.image_encoder, model.tabular_encoder, model.fusion)
    assert model.heads is not None
    for stage in (None, 0, 1, 0):
        if stage is not None:
            model.enter(stage)
        first = stage == 0
        assert learns(model.heads) == {first} and learns(model.classifier) == {not first}
        assert all(learns(module) == {True} for module in shared)  # nothing is frozen
        batch = make_batch(MIXED)
        terms = model.losses(model(batch), batch)
        assert list(terms) == ([*PARTS, "pretraining"] if first else ["task"])


def test_a_run_is_pretrained_for_its_share_of_the_epochs() -> None:
    packed = PACKED[""]
    run = make_run(packed, optim__epochs=4, optim__batch_size=8)
    method = {**make_model(pretraining=0.5).config.to_dict()}
    rows = fit(RunConfig.from_dict({**run.to_dict(), "method": method}), packed, Runtime()).rows
    pretraining = {f"train/{name}" for name in (*PARTS, "pretraining")}
    for row in rows[:2]:
        assert pretraining <= row.keys() and "train/task" not in row
    for row in rows[2:]:
        assert "train/task" in row and not pretraining & row.keys()


def test_no_epoch_has_rate_zero_and_after_the_warm_up_the_rates_are_those_of_the_code() -> None:
    config = OptimConfig(learning_rate=3e-4, epochs=500, warmup=0.02)
    rates = [next(learning_rates(config, 1, epoch)) for epoch in range(500)]
    assert min(rates) > 0
    golden = {9: 3e-4, 10: 3e-4, 255: 1.5e-4, 499: 3.082956e-9}
    assert {e: rates[e] for e in golden} == pytest.approx(golden, rel=1e-6)


def test_shares_of_the_columns() -> None:
    assert (num_masked(17), num_corrupted(17)) == (8, 5)
    assert [num_masked(n) for n in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert [num_corrupted(n) for n in (1, 3, 4, 10)] == [0, 0, 1, 3]


def table(inputs: tuple[Any, ...]) -> Tensor:
    """The cells that the tabular encoder is given; NaN is an empty one."""
    batch, _ = inputs
    category = batch.category
    return torch.cat([category.float().masked_fill(category == 0, nan), batch.numeric], dim=1)


def test_contrast_and_matching_get_a_corrupted_table_and_reconstruction_a_masked_clean_one() -> (
    None
):
    model, batch = pretrained(), make_batch([(1, 1)] * 8)
    corrupted, masked = map(table, inputs_of(model.tabular_encoder, lambda: model(batch)))
    clean = table((batch, None))
    empty = clean.isnan()
    assert torch.equal(corrupted.isnan(), empty)
    changed = (corrupted != clean) & ~empty
    assert changed.any() and (changed.sum(dim=1) <= num_corrupted(4)).all()
    hidden = model(batch).pretraining.masked
    assert (hidden.sum(dim=1) == num_masked(4)).all()
    assert torch.equal(masked.isnan(), empty | hidden)
    assert torch.equal(masked[~masked.isnan()], clean[~masked.isnan()])


def test_a_pair_is_matched_with_its_own_another_image_and_another_table() -> None:
    model, batch = pretrained(), make_batch([(1, 1)] * 6)
    matched, rebuilt = inputs_of(model.fusion, lambda: model(batch))
    assert len(matched[0]) == 3 * 6 and len(rebuilt[0]) == 6
    (own_table, same_table, other_table), (own_image, other_image, same_image) = (
        part.chunk(3) for part in matched[:2]
    )
    assert torch.equal(own_table, same_table) and torch.equal(own_image, same_image)
    assert torch.equal(own_image, rebuilt[1])
    for own, other in ((own_table, other_table), (own_image, other_image)):
        for i in range(6):
            taken = [j for j in range(6) if torch.equal(other[i], own[j])]
            assert taken and taken != [i]


def test_the_unpaired_are_in_no_contrast_and_no_match() -> None:
    model, pairs = pretrained(), [(1, 1), (1, 1), (1, 0), (0, 1), (1, 1)]
    batch = make_batch(pairs)
    model.image_encoder.eval()  # batch statistics are of all
    found = model(batch)
    terms = model.losses(found, batch)
    there = batch.available.all(dim=1)

    def rows(values: Tensor) -> Tensor:
        return values[there]

    part = Batch(*(rows(values) for values in batch))
    alone = found._replace(pretraining=type(found.pretraining)(*map(rows, found.pretraining)))
    expected = model.losses(alone, part)
    for name in ("contrastive", "matching"):
        torch.testing.assert_close(terms[name], expected[name])
        assert terms[name] > 0


def test_the_objective_is_the_mean_of_the_terms_that_have_samples() -> None:
    for available, counted in {
        ((1, 1), (1, 1), (1, 0)): PARTS,
        ((1, 1), (0, 1), (1, 0)): ("reconstruction",),  # one pair has no other
        ((0, 1), (1, 0)): ("reconstruction",),
        ((1, 0), (1, 0)): (),
    }.items():
        model, batch = pretrained(), make_batch(list(available))
        batch = batch._replace(  # nothing is empty or unknown
            numeric=batch.numeric.nan_to_num(0.5), category=batch.category.clamp(min=2)
        )
        terms = model.losses(model(batch), batch)
        total = sum(terms[name].item() for name in counted) / max(len(counted), 1)
        assert objective(model, terms).item() == pytest.approx(total, rel=1e-6)
        assert all((terms[name] > 0) == (name in counted) for name in PARTS)


def steps_of(inputs: tuple[Any, ...]) -> Tensor:
    """The valid steps that the tabular encoder is given; -9 for an empty one."""
    series, length = inputs[0].series, inputs[0].length
    padding = torch.arange(series.shape[1]) >= length[:, None]
    return series.nan_to_num(-9).masked_fill(padding[..., None], 0.0)


@pytest.mark.parametrize("kind", ["series", "columns and series"])
def test_steps_are_corrupted_and_masked_as_columns_are(kind: str) -> None:
    schema = KINDS[kind].with_values({"steps": 12})
    model, batch = pretrained(schema=schema), make_batch([(1, 1)] * 8, schema=schema)
    corrupted, masked = inputs_of(model.tabular_encoder, lambda: model(batch))
    clean, found = steps_of((batch,)), steps_of(corrupted)
    changed = (found != clean).any(dim=2)
    places = 12 + len(schema.numeric) + len(schema.category)
    assert changed.any() and (changed.sum(dim=1) <= num_corrupted(places)).all()
    for sample, step in changed.nonzero().tolist():
        valid = [i for i in range(8) if step < batch.length[i]]
        assert any(torch.equal(found[sample, step], clean[i, step]) for i in valid)
    hidden = model(batch).pretraining.masked
    assert (hidden.sum(dim=1) == num_masked(places)).all()
    hidden = hidden[:, places - 12 :] & (torch.arange(12) < batch.length[:, None])
    expected = clean.masked_fill(hidden[..., None], -9)
    assert hidden.any() and torch.equal(steps_of(masked), expected)


def test_the_fusion_is_told_the_valid_tokens_of_each_table_and_of_a_drawn_one() -> None:
    model = pretrained(schema=SERIES)
    batch = make_batch([(1, 1)] * 6, schema=SERIES)
    valid = torch.arange(4) < batch.length[:, None]
    assert batch.length.tolist() == [4, 3, 2, 4, 3, 2]
    matched, rebuilt = inputs_of(model.fusion, lambda: model(batch))
    own, _, drawn = matched[0].chunk(3)
    taken = [next(j for j in range(6) if torch.equal(table, own[j])) for table in drawn]
    assert torch.equal(rebuilt[3][:, 1:], valid) and rebuilt[3][:, 0].all()
    assert torch.equal(matched[3][:, 1:], torch.cat([valid, valid, valid[taken]]))
    assert (valid != valid[taken]).any()


@torch.no_grad()
def test_steps_are_told_from_their_own_tokens_by_one_map() -> None:
    schema = KINDS["columns and series"]
    model, tokens = pretrained(schema=schema), torch.randn(2, 9, 16)
    assert model.heads is not None and model.heads.cells.step is not None
    levels, numbers, steps = model.heads.cells(tokens)
    assert levels.shape == (2, 2, 5) and numbers.shape == (2, 2)
    step = model.heads.cells.step
    torch.testing.assert_close(steps, tokens[:, 5:] @ step.weight.T + step.bias)


def test_what_steps_hold_is_learned_from_the_others_and_the_image() -> None:
    """They are all alike, and the image is as bright."""
    model, batch = pretrained(schema=SERIES), make_batch([(1, 1)] * 8, schema=SERIES)
    number = torch.linspace(-2, 2, 8)
    batch = batch._replace(
        image=number[:, None, None, None] + 0.1 * batch.image,
        series=number[:, None, None].expand(8, 4, 2),
        length=torch.full((8,), 4),
    )
    stepper = Stepper(model, OptimConfig(), Compute())
    steps = [stepper.step(batch, 3e-3) for _ in range(80)]
    values = torch.stack([terms["reconstruction"].detach() for terms in steps])
    assert values[:5].mean() > 1 and values[-10:].mean() < 0.3 * values[:10].mean()


def test_each_step_draws_anew_and_repeats_itself() -> None:
    model, batch = pretrained(), make_batch(MIXED)
    first, again = model(batch).pretraining, model(batch).pretraining
    assert torch.equal(first.matching, again.matching) and torch.equal(first.masked, again.masked)
    model.after_step()
    other = model(batch).pretraining
    assert not torch.equal(first.masked, other.masked)
    assert not torch.equal(first.tabular, other.tabular)


def test_pretraining_learns_to_tell_pairs_apart() -> None:
    model, batch = pretrained(), make_batch([(1, 1)] * 8)
    number = torch.linspace(-2, 2, 8)
    bright = number[:, None, None, None] + 0.1 * batch.image
    batch = batch._replace(image=bright, numeric=torch.stack([number, -number], dim=1))
    stepper = Stepper(model, OptimConfig(), Compute())
    steps = [stepper.step(batch, 3e-3) for _ in range(80)]
    for name in ("contrastive", "reconstruction"):
        values = torch.stack([terms[name].detach() for terms in steps])
        assert values[-10:].mean() < 0.9 * values[:10].mean(), name
    found = model(batch).pretraining
    likeness = normalize(found.image, dim=1) @ normalize(found.tabular, dim=1).T
    assert likeness.diagonal().mean() > likeness.mean() + 0.05


@pytest.mark.parametrize("schema", [SCHEMA, SERIES], ids=["columns", "series"])
def test_pretraining_in_bfloat16_has_finite_losses_in_float32(schema: Schema) -> None:
    model = pretrained(schema=schema)
    stepper = Stepper(model, OptimConfig(), Compute(precision="bfloat16"))
    terms = stepper.step(make_batch(MIXED, schema=schema), 1e-3)
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())


@pytest.mark.parametrize(
    "schema",
    [
        {"category": {}},
        {"numeric": []},
        {"category": {"colour": [], "shape": ["flat"]}},
        {"numeric": ["length"], "category": {}},
    ],
    ids=["numbers", "categories", "a column without levels", "one column"],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_tables_of_one_kind_of_column(variant: str, schema: dict[str, Any]) -> None:
    whole = SCHEMA.with_values(schema)
    model = make_model(whole, stage=0, variant=variant, pretraining=0.5)
    batch = make_batch(MIXED)
    batch = batch._replace(
        numeric=batch.numeric[:, : len(whole.numeric)],
        category=batch.category[:, : len(whole.category)].clamp(max=2),
    )
    if "category" in schema and whole.category:
        batch.category[:, 0].clamp_(max=1)
    terms = model.losses(model(batch), batch)
    assert terms["reconstruction"] > 0
    objective(model, terms).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    model.enter(1)
    assert model.eval()(batch).logits.isfinite().all()


def exact(method: torch.nn.Module) -> torch.nn.Module:
    """In float64, and distributed where there are several workers."""

    def in_float64(_: Any, inputs: Any) -> Any:
        batch = inputs[0]
        parts = {name: getattr(batch, name).double() for name in ("image", "numeric", "series")}
        return (batch._replace(**parts),)

    method.double().register_forward_pre_hook(in_float64)
    return workers.together(method) if world_size() > 1 else method


def train(variant: str, kind: str) -> list[dict[str, Any]]:
    """The rows of a short training in two stages, in which some batches lack a kind of sample."""
    packed = PACKED[kind]
    run = make_run(packed, optim__epochs=3, optim__batch_size=7)
    method = make_model(variant=variant, pretraining=0.6).config.to_dict()
    rows = fit(
        RunConfig.from_dict({**run.to_dict(), "method": method}), packed, Runtime(wrap=exact)
    ).rows
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def worker(me: int, folder: Path) -> None:
    found = {(variant, kind): train(variant, kind) for variant in VARIANTS for kind in PACKED}
    torch.save(found, folder / f"{me}.pt")


@pytest.fixture(scope="module")
def everyone(tmp_path_factory: Any) -> Iterator[list[Any]]:
    folder: Path = tmp_path_factory.mktemp("workers")
    workers.start(worker, 2, folder)
    yield [torch.load(folder / f"{me}.pt") for me in range(2)]


@pytest.mark.parametrize("kind", PACKED, ids=lambda kind: kind or "columns")
@pytest.mark.parametrize("variant", VARIANTS)
def test_workers_pretrain_to_the_numbers_of_one_process(
    everyone: list[Any], variant: str, kind: str
) -> None:
    alone = train(variant, kind)
    assert [("train/task" in row) for row in alone] == [False, False, True]
    for found in everyone:
        for row, expected in zip(found[variant, kind], alone, strict=True):
            assert row == pytest.approx(expected, rel=1e-8, abs=1e-8, nan_ok=True)


@pytest.mark.parametrize("width", [256, 512])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_sizes_of_the_paper(width: int, task: str) -> None:
    schema: Schema = SCHEMA.with_values({"task": task})
    model = make_model(schema, width=width, tabular_heads=8, task_loss="ce")
    batch = make_batch([(1, 1), (1, 0), (0, 1)])
    if task == "multilabel":
        batch = batch._replace(label=torch.eye(3)[batch.label])
    assert model.losses(model(batch), batch)["task"].isfinite()
    assert model.classifier.weight.shape == (3, width)
    assert model.task_loss == ("bce" if task == "multilabel" else "ce")


def test_the_defaults_are_the_papers_and_lie_in_the_search_space() -> None:
    config = Config()
    assert (config.variant, config.pretraining, config.fusion_depth) == ("zero", 0.0, 4)
    for name, wanted in SEARCH_SPACE.items():
        part, field = name.split(".")
        value = getattr({"method": config, "optim": OptimConfig()}[part], field)
        assert wanted.low <= value <= wanted.high


def test_a_share_of_one_would_leave_no_epoch_for_the_classifier() -> None:
    with pytest.raises(ConfigError, match=r"method\.pretraining should be less than 1"):
        Config.from_dict({"pretraining": 1.0}, "method.")


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.width must be a multiple"):
        Config.from_dict({"width": 20}, "method.")
