"""The contract that every method keeps: DFPL, the baselines, and any file added later."""

from typing import Any

import pytest
import torch
from samples import MIXED, SCHEMA, SMALL, make_batch

from dfpl import method as methods
from dfpl.data.batch import Batch
from dfpl.fields import ConfigError
from dfpl.method import Method, objective

CORNERS = {
    "no pair": [(1, 0), (0, 1), (1, 0), (0, 1)],
    "images only": [(1, 0)] * 4,
    "tables only": [(0, 1)] * 4,
    "two samples": [(1, 1), (0, 1)],
    "one sample": [(1, 1)],
}


def small(name: str, **values: Any) -> Method:
    torch.manual_seed(0)
    config = methods.load(name).Config
    known = {field: value for field, value in SMALL.items() if field in config.model_fields}
    return methods.build(config.from_dict({**known, **values, "name": name}), SCHEMA)


STAGES = [(name, stage) for name in methods.names() for stage in range(len(small(name).stages()))]


@pytest.fixture(params=STAGES, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def method(request: pytest.FixtureRequest) -> Method:
    """Each method in each stage of its training."""
    name, stage = request.param
    found = small(name)
    found.enter(stage)
    return found


def gradients(method: Method, batch: Batch) -> dict[str, Any]:
    method.zero_grad()
    objective(method, method.losses(method(batch), batch)).backward()
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


def test_skipping_what_is_absent_changes_no_logit_and_no_gradient(method: Method) -> None:
    """But for the batch statistics, which are frozen here; NaN in what is absent is not met."""
    config: Any = getattr(method, "config", None)
    if "encode_missing" not in getattr(type(config), "model_fields", {}):
        pytest.skip("the method has no choice of encode_missing")
    batch = make_batch(MIXED)
    image = batch.image.masked_fill(~batch.available[:, :1, None, None], torch.nan)
    numeric = batch.numeric.masked_fill(~batch.available[:, 1:], torch.nan)
    found = {}
    for way in ("zeros", "skip"):
        other = methods.build(config.with_values({"encode_missing": way}), SCHEMA)
        other.load_state_dict(method.state_dict())
        logits = other.eval()(batch).logits
        other.train()
        for module in other.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        spoiled = batch._replace(image=image, numeric=numeric)
        found[way] = logits, gradients(other, spoiled)
    (logits, slopes), (expected, wanted) = found["skip"], found["zeros"]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    for name, slope in slopes.items():
        torch.testing.assert_close(slope, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


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


def test_a_method_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no method 'dfpk'; did you mean 'dfpl'"):
        methods.load("dfpk")
