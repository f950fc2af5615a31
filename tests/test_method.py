"""The contract that every method keeps: DFPL, the baselines, and any file added later."""

from contextlib import nullcontext
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import (
    HEARS_ZEROS,
    MIXED,
    SCHEMA,
    make_batch,
    make_config,
    make_method,
    make_packed,
    make_run,
    several_labels,
    stages,
)

from dfpl import method as methods
from dfpl.checkpoint import load_weights, save_weights
from dfpl.data.batch import Batch
from dfpl.fields import ConfigError
from dfpl.method import Method, objective
from dfpl.step import learning
from dfpl.storage import Storage
from dfpl.study.space import point_of
from dfpl.train import Fitted, Runtime, fit

CORNERS = {
    "no pair": [(1, 0), (0, 1), (1, 0), (0, 1)],
    "images only": [(1, 0)] * 4,
    "tables only": [(0, 1)] * 4,
    "two samples": [(1, 1), (0, 1)],
    "one sample": [(1, 1)],
}


STAGES = stages()
LAST = [(name, stage) for name, stage in STAGES if (name, stage + 1) not in STAGES]


def told(pair: tuple[str, int]) -> str:
    return f"{pair[0]}-{pair[1]}"


@pytest.fixture(params=STAGES, ids=told)
def method(request: pytest.FixtureRequest) -> Method:
    """Each method in each stage of its training."""
    return make_method(*request.param)


@pytest.fixture(params=LAST, ids=lambda pair: pair[0])
def trained(request: pytest.FixtureRequest) -> Method:
    """Each method in its last stage, in which it predicts, with weights that are not as new."""
    found = make_method(*request.param)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return found


def gradients(method: Method, batch: Batch) -> dict[str, Any]:
    """Of all that learns: of nothing, for a method without parameters."""
    method.zero_grad()
    total = objective(method, method.losses(method(batch), batch))
    if learning(method):
        total.backward()
    return {name: p.grad for name, p in method.named_parameters() if p.requires_grad}


def test_every_parameter_learns_from_a_mixed_batch(method: Method) -> None:
    idle = [n for n, g in gradients(method, make_batch(MIXED)).items() if g is None or not g.any()]
    assert not idle


def test_a_missing_modality_is_never_read(method: Method) -> None:
    batch = make_batch(MIXED)
    absent = ~batch.available
    spoiled = batch._replace(
        image=batch.image.clone(), numeric=batch.numeric.clone(), category=batch.category.clone()
    )
    spoiled.image[absent[:, 0]] = torch.nan
    spoiled.numeric[absent[:, 1]] = torch.nan
    spoiled.category[absent[:, 1]] = 3
    method.eval()
    assert torch.equal(method(spoiled).logits, method(batch).logits)
    method.train()
    clean = gradients(method, batch)
    for name, gradient in gradients(method, spoiled).items():
        assert torch.equal(gradient, clean[name]), name


@pytest.mark.parametrize(("name", "stage"), STAGES, ids=str)
def test_skipping_what_is_absent_changes_no_logit_and_no_gradient(name: str, stage: int) -> None:
    """But for the batch statistics, which are frozen here; NaN in what is absent is not met."""
    if "encode_missing" not in methods.load(name).Config.model_fields or name in HEARS_ZEROS:
        pytest.skip("the method has no such choice, or one that changes what it computes")
    batch = make_batch(MIXED)
    image = batch.image.masked_fill(~batch.available[:, :1, None, None], torch.nan)
    numeric = batch.numeric.masked_fill(~batch.available[:, 1:], torch.nan)
    found = {}
    for way in ("zeros", "skip"):
        method = make_method(name, stage, encode_missing=way)
        logits = method.eval()(batch).logits
        method.train()
        for module in method.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        spoiled = batch._replace(image=image, numeric=numeric)
        found[way] = logits, gradients(method, spoiled)
    (logits, slopes), (expected, wanted) = found["skip"], found["zeros"]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    for parameter, slope in slopes.items():
        torch.testing.assert_close(slope, wanted[parameter], rtol=1e-4, atol=1e-6, msg=parameter)


def test_logits_do_not_depend_on_labels(method: Method) -> None:
    batch = make_batch(MIXED)
    method.eval()
    other = batch._replace(label=(batch.label + 1) % 3)
    assert torch.equal(method(batch).logits, method(other).logits)


def test_a_prediction_does_not_depend_on_its_batch(method: Method) -> None:
    batch = make_batch(MIXED)
    method.eval()
    together = method(batch).logits
    alone = [method(Batch(*(x[i : i + 1] for x in batch))).logits for i in range(len(MIXED))]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("corner", CORNERS)
def test_losses_and_gradients_are_finite_at_the_corners(method: Method, corner: str) -> None:
    batch = make_batch(CORNERS[corner])
    terms = method.losses(method(batch), batch)
    assert all(term.isfinite() for term in terms.values())
    for name, gradient in gradients(method, batch).items():
        assert gradient is None or gradient.isfinite().all(), name


@pytest.mark.parametrize("label", [0, 1])
def test_a_batch_of_one_class_is_finite(method: Method, label: int) -> None:
    batch = make_batch(MIXED)
    batch = batch._replace(label=torch.full_like(batch.label, label))
    assert all(g.isfinite().all() for g in gradients(method, batch).values())


def test_one_positive_among_many_is_finite(method: Method) -> None:
    batch = make_batch(MIXED)
    batch = batch._replace(label=torch.tensor([1] + [0] * (len(MIXED) - 1)))
    assert all(g.isfinite().all() for g in gradients(method, batch).values())


def test_levels_never_seen_and_empty_cells_are_understood(method: Method) -> None:
    batch = make_batch([(1, 1)] * 3)
    for code in (0, 1):
        changed = batch._replace(category=torch.full_like(batch.category, code))
        assert method.eval()(changed).logits.isfinite().all()


@pytest.mark.parametrize(("name", "stage"), STAGES, ids=str)
def test_several_labels_are_learned_and_predicted(name: str, stage: int) -> None:
    method, batch = make_method(name, stage, task="multilabel"), several_labels(make_batch(MIXED))
    terms = method.losses(method(batch), batch)
    assert terms and all(term.isfinite() for term in terms.values())
    for parameter, gradient in gradients(method, batch).items():
        assert gradient is not None and gradient.isfinite().all(), parameter
    logits = method.eval()(batch).logits
    assert logits.shape == (len(MIXED), 3) and logits.isfinite().all()


@pytest.mark.parametrize(("name", "stage"), STAGES, ids=str)
def test_a_width_as_in_real_runs(name: str, stage: int) -> None:
    config = make_config(name, width=256, tabular_heads=8)
    if "width" not in type(config).model_fields:
        pytest.skip("the method has no width")
    method, batch = methods.build(config, SCHEMA), make_batch([(1, 1), (1, 0), (0, 1), (1, 1)])
    method.enter(stage)
    assert all(gradient.isfinite().all() for gradient in gradients(method, batch).values())
    assert method.eval()(batch).logits.shape == (4, 3)


@pytest.mark.parametrize("without", ["numeric", "category"])
@pytest.mark.parametrize(("name", "stage"), STAGES, ids=str)
def test_tables_of_one_kind_of_column(name: str, stage: int, without: str) -> None:
    schema = SCHEMA.with_values({without: {} if without == "category" else []})
    method, batch = methods.build(make_config(name), schema), make_batch(MIXED)
    method.enter(stage)
    batch = batch._replace(**{without: getattr(batch, without)[:, :0]})
    for parameter, gradient in gradients(method, batch).items():
        assert gradient is not None and gradient.isfinite().all(), parameter
    assert method.eval()(batch).logits.isfinite().all()


def test_saved_and_loaded_it_says_the_same_to_the_last_bit(trained: Method, tmp_path: Path) -> None:
    """By a method that knows no data and was never told a stage."""
    config: Any = trained.config
    save_weights(trained.state_dict(), Storage(tmp_path))
    loaded = methods.build(type(config).from_dict(config.to_dict()), SCHEMA)
    loaded.load_state_dict(load_weights(Storage(tmp_path)))
    batch = make_batch(MIXED)
    assert torch.equal(loaded.eval()(batch).logits, trained.eval()(batch).logits)


PACKED = make_packed()


class Killed(Exception):
    """Stands for a machine that goes away."""


def train(name: str, folder: Storage | None = None, killed_after: int = 0) -> Fitted:
    """Four epochs; two stages get two of them each. A checkpoint after each, if anywhere."""

    def report(row: dict[str, float]) -> bool:
        if row["epoch"] == killed_after:
            raise Killed
        return True

    run = make_run(PACKED, method=make_config(name).to_dict(), optim__epochs=4)
    return fit(run, PACKED, Runtime(report=report, checkpoints=folder, checkpoint_every_s=0.0))


def numbers(fitted: Fitted) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "value")} for row in fitted.rows]


@cache
def uninterrupted(name: str) -> Fitted:
    return train(name)


@pytest.mark.parametrize("name", methods.names())
def test_it_is_trained(name: str) -> None:
    found = uninterrupted(name)
    assert len(found.rows) == (4 if list(found.method.parameters()) else 1)
    for row in numbers(found):
        assert all(isfinite(value) for value in row.values()), row
    assert "val/accuracy" in found.rows[-1] and 0 <= found.best_value <= 1


@pytest.mark.parametrize("name", methods.names())
def test_killed_within_each_stage_it_goes_on_as_if_nothing_had_happened(
    name: str, tmp_path: Path
) -> None:
    expected = uninterrupted(name)
    for epoch in (1, 3):
        dies = epoch <= len(expected.rows)
        with pytest.raises(Killed) if dies else nullcontext():
            train(name, Storage(tmp_path), epoch)
    torch.manual_seed(99)
    found = train(name, Storage(tmp_path))
    assert numbers(found) == numbers(expected)
    assert (found.best_epoch, found.best_value) == (expected.best_epoch, expected.best_value)
    weights = expected.method.state_dict()
    for part, value in found.method.state_dict().items():
        assert torch.equal(value, weights[part]), part


@pytest.mark.parametrize("name", methods.names())
def test_what_is_searched_are_fields_and_the_defaults_lie_within(name: str) -> None:
    module = methods.load(name)
    run = make_run(PACKED, method=module.Config().to_dict())
    assert module.SEARCH_SPACE and point_of(run, module.SEARCH_SPACE)


def test_a_method_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no method 'dfpk'; did you mean 'dfpl'"):
        methods.load("dfpk")
