"""The contract that every method keeps on other data than pictures with columns: on time series,
alone and beside columns, and on volumes."""

from functools import partial
from math import isfinite
from typing import Any

import pytest
import torch
from checks import assert_one_pass_equals_three
from samples import (
    HEARS_ZEROS,
    KINDS,
    MIXED,
    make_batch,
    make_config,
    make_method,
    make_packed,
    make_run,
    stages,
)
from test_method import CORNERS, gradients, numbers

from dfpl import method as methods
from dfpl.data.batch import Batch
from dfpl.method import Method, objective
from dfpl.step import learning
from dfpl.train import Runtime, fit

NATIVE = [(name, stage, {"variant": "native"}) for name, stage in stages("tip")]
CASES = [(kind, *case) for kind in KINDS for case in [*((*pair, {}) for pair in stages()), *NATIVE]]
SEVERAL = ["dfpl", "tip", "im_fuse"]
"""Methods that are trained here: DFPL, one of two stages, one that knows lengths in advance."""
POSITION = "steps.position.weight"
BATCHES = {kind: make_batch(MIXED, schema=schema) for kind, schema in KINDS.items()}


def told(case: Any) -> str:
    kind, name, stage, values = case
    return "-".join([kind, name, str(stage), *values.values()])


in_each_case = pytest.mark.parametrize("case", CASES, ids=told)


def make(case: Any, **values: Any) -> Method:
    kind, name, stage, own = case
    return make_method(name, stage, kind=kind, **own, **values)


def spoiled(batch: Batch, padding: float) -> Batch:
    """The same with NaN in what is absent, another length there, and a number in all padding."""
    has_image, has_table = (there[:, None] for there in batch.available.unbind(dim=1))
    T = batch.series.shape[1]
    valid = has_table & (torch.arange(T) < batch.length[:, None])
    image = batch.image.clone()
    image[~has_image[:, 0]] = torch.nan
    return batch._replace(
        image=image,
        numeric=batch.numeric.where(has_table, torch.nan),
        category=batch.category.where(has_table, 3),
        series=batch.series.where(valid[..., None], padding),
        length=batch.length.where(has_table[:, 0], min(T, 2)),
    )


@in_each_case
def test_every_parameter_learns_from_a_mixed_batch(case: Any) -> None:
    found = gradients(make(case), BATCHES[case[0]])
    assert not [name for name, slope in found.items() if slope is None or not slope.any()]
    positions = [slope for name, slope in found.items() if name.endswith(POSITION)]
    assert all(slope.any(dim=1).all() for slope in positions)


@in_each_case
def test_what_is_absent_and_what_is_padding_are_never_read(case: Any) -> None:
    """Whatever they hold: NaN is also the sign of what is empty, 1e30 is not."""
    method, batch = make(case), BATCHES[case[0]]
    others = [spoiled(batch, padding) for padding in (torch.nan, 1e30)]
    method.eval()
    logits = method(batch).logits
    assert all(torch.equal(method(other).logits, logits) for other in others)
    method.train()
    expected = gradients(method, batch)
    for other in others:
        for name, slope in gradients(method, other).items():
            assert torch.equal(slope, expected[name]), name


@pytest.mark.parametrize("case", [case for case in CASES if KINDS[case[0]].steps], ids=told)
@torch.no_grad()
def test_the_tokens_of_padding_have_no_part_in_a_prediction(case: Any) -> None:
    """What the encoder says there depends on the positions alone, so others are tried."""
    method = make(case).eval()
    batch = make_batch([(1, 1)] * 3 + [(0, 1)] * 3, schema=KINDS[case[0]])
    assert batch.length.tolist() == [4, 3, 2] * 2
    before = method(batch).logits
    positions = [p for name, p in method.named_parameters() if name.endswith(POSITION)]
    for position in positions:
        position[2:] += torch.randn_like(position[2:])
    changed = (method(batch).logits != before).any(dim=1).tolist()
    assert changed == [bool(positions), bool(positions), False] * 2


@in_each_case
def test_a_prediction_does_not_depend_on_its_batch(case: Any) -> None:
    batch, method, rows = BATCHES[case[0]], make(case).eval(), (0, 1, 2, 7)
    alone = [method(Batch(*(x[i : i + 1] for x in batch))).logits for i in rows]
    together = method(batch).logits[list(rows)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-5, atol=1e-6)


@in_each_case
def test_one_pass_over_the_states_equals_three(case: Any) -> None:
    assert_one_pass_equals_three(make(case), KINDS[case[0]])


@in_each_case
def test_losses_and_gradients_are_finite_at_the_corners(case: Any) -> None:
    method, schema = make(case), KINDS[case[0]]
    batches = {told: make_batch(there, schema=schema) for told, there in CORNERS.items()}
    if schema.steps:
        whole = make_batch([(1, 1)] * 4, schema=schema)
        batches["one step"] = whole._replace(length=torch.ones_like(whole.length))
    for corner, batch in batches.items():
        terms = method.losses(method(batch), batch)
        assert all(term.isfinite() for term in terms.values()), corner
        method.zero_grad()
        if learning(method):
            objective(method, terms).backward()
        slopes = {name: p.grad for name, p in method.named_parameters() if p.requires_grad}
        for name, slope in slopes.items():  # a distributed wrapper would wait for one that is None
            assert slope is not None and slope.isfinite().all(), (corner, name)


@in_each_case
def test_skipping_what_is_absent_changes_no_logit_and_no_gradient(case: Any) -> None:
    kind, name, *_ = case
    if "encode_missing" not in methods.load(name).Config.model_fields or name in HEARS_ZEROS:
        pytest.skip("the method has no such choice, or one that changes what it computes")
    found = {}
    for way in ("zeros", "skip"):
        method = make(case, encode_missing=way)
        logits = method.eval()(BATCHES[kind]).logits
        method.train()
        for module in method.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        found[way] = logits, gradients(method, spoiled(BATCHES[kind], torch.nan))
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-6)
    close(found["skip"][0], found["zeros"][0])
    for parameter, slope in found["skip"][1].items():
        close(slope, found["zeros"][1][parameter], msg=parameter)


@torch.no_grad()
def test_a_series_far_longer_than_the_images_sequence_is_averaged_over_valid_steps_alone() -> None:
    """By IM-Fuse, which makes 10 tokens of 24 steps beside 5 of the image: the fifth is of the
    steps 9 to 11."""
    schema = KINDS["series"].with_values({"steps": 24})
    method: Any = methods.build(make_config("im_fuse"), schema).eval()
    assert method.lengths == (5, 10)
    batch = make_batch([(1, 1)] * 2, schema=schema)._replace(length=torch.tensor([24, 11]))
    seen: list[Any] = []
    method.tabular_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    method(batch)
    tokens, _, _, valid = seen[0]
    assert valid.tolist() == [[True] * 10, [True] * 5 + [False] * 5]
    steps = method.tabular_encoder(batch, batch.available[:, 1])[:, 1:]
    torch.testing.assert_close(tokens[0, 4], steps[0, 9:12].mean(dim=0))
    torch.testing.assert_close(tokens[1, 4], steps[1, 9:11].mean(dim=0))


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_trained(kind: str, name: str) -> None:
    packed = make_packed(40, kind=kind)
    fitted = fit(make_run(packed, method=make_config(name).to_dict()), packed, Runtime())
    assert len(fitted.rows) == 2
    for row in numbers(fitted):
        assert all(isfinite(value) for value in row.values()), row


@pytest.mark.parametrize("width", [256, 512])
def test_a_width_as_in_real_runs(width: int) -> None:
    config = make_config("dfpl", width=width, tabular_heads=8)
    method = methods.build(config, KINDS["series"])
    found = gradients(method, BATCHES["series"])
    assert all(slope.isfinite().all() for slope in found.values())
    assert method.eval()(BATCHES["series"]).logits.shape == (len(MIXED), 3)
