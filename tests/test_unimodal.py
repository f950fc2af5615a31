"""Classifiers of one modality: what they read, what they answer without it, and log priors."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch
from samples import MIXED, SCHEMA, SMALL, make_batch, make_packed, make_run

from dfpl import method as methods
from dfpl.data.loader import View
from dfpl.fields import ConfigError
from dfpl.losses import task_loss
from dfpl.train import Runtime, fit
from dfpl.unimodal import LEAST, TableConfig, Unimodal, each_state, logits_of, prior_logits

COLUMN = {"image_only": 0, "table_only": 1}


@pytest.fixture(params=COLUMN)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def make_model(name: str, **values: Any) -> Unimodal:
    torch.manual_seed(0)
    module = methods.load(name)
    small = {field: value for field, value in SMALL.items() if field in module.Config.model_fields}
    model = module.Model(module.Config.from_dict({**small, **values, "name": name}), SCHEMA)
    with torch.no_grad():
        model.prior.copy_(torch.tensor([0.5, -1.0, 2.0]))
    return model


def test_a_sample_without_the_modality_gets_the_prior_and_the_others_do_not(name: str) -> None:
    batch, model = make_batch(MIXED), make_model(name).eval()
    logits, there = model(batch).logits, batch.available[:, COLUMN[name]]
    assert (logits[~there] == model.prior).all()
    assert (logits[there] != model.prior).all()
    assert len(logits[there].unique(dim=0)) == there.sum()


def test_the_other_modality_is_never_read(name: str) -> None:
    batch, model = make_batch(MIXED), make_model(name).eval()
    spoiled = {
        "image_only": {"numeric": batch.numeric * torch.nan, "category": batch.category + 99},
        "table_only": {"image": batch.image * torch.nan},
    }
    available = batch.available.clone()
    available[:, 1 - COLUMN[name]] = False
    other = batch._replace(available=available, **spoiled[name])
    assert torch.equal(model(other).logits, model(batch).logits)


def test_one_cross_entropy_trains_the_classifier_and_the_prior(name: str) -> None:
    batch, model = make_batch(MIXED), make_model(name, task_loss="ce")
    model.losses(model(batch), batch)["task"].backward()
    # of the prior: (softmax - one-hot), summed over the samples that lack it, over all samples
    lacking = ~batch.available[:, COLUMN[name]]
    wrong = model.prior.detach().softmax(0) - torch.eye(3)[batch.label[lacking]]
    assert model.prior.grad is not None
    torch.testing.assert_close(model.prior.grad, wrong.sum(dim=0) / len(MIXED))


def test_the_prior_starts_at_the_frequencies_of_the_training_split(name: str) -> None:
    packed = make_packed(61)
    train = View.of(packed, "train")
    model = make_model(name)
    model.prepare(train, train.statistics(), seed=0)
    found = model.prior.detach().softmax(dim=0).numpy()
    expected = np.bincount(packed.label[train.rows]) / len(train.rows)
    assert len(set(expected)) > 1
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_where_all_samples_lack_it_the_prior_alone_learns(name: str) -> None:
    lonely = (1, 0) if name == "table_only" else (0, 1)
    batch, model = make_batch([lonely] * 4), make_model(name)
    model.losses(model(batch), batch)["task"].backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None
        assert bool(value.grad.any()) == (parameter == "prior"), parameter


@pytest.mark.parametrize(("pattern", "least"), [("tabular", 0.6), ("image", 0.6)])
def test_it_learns_the_made_up_rule_where_its_modality_is_there(pattern: str, least: float) -> None:
    name = {"tabular": "image_only", "image": "table_only"}[pattern]
    method = {k: v for k, v in SMALL.items() if k in methods.load(name).Config.model_fields}
    packed = make_packed()
    run = make_run(packed, optim__epochs=12, optim__learning_rate=3e-3).with_values(
        {"scenario.pattern": pattern, "method": {**method, "name": name}}
    )
    assert fit(run, packed, Runtime()).best_value >= least  # chance is 1/3


def test_states_take_away_and_never_add() -> None:
    left = each_state(torch.tensor([[1, 1], [1, 0], [0, 1]]).bool())
    assert left["both"].tolist() == [[True, True], [True, False], [False, True]]
    assert left["image"].tolist() == [[True, False], [True, False], [False, False]]
    assert left["tabular"].tolist() == [[False, True], [False, False], [False, True]]


def test_logits_by_hand() -> None:
    p = torch.tensor([0.75, 0.25, 0.0, 1.0])
    logs = [log(0.75), log(0.25), log(LEAST), 0.0]
    torch.testing.assert_close(logits_of(p, False), torch.tensor(logs).double())
    odds = [log(3), -log(3), log(LEAST), -log(LEAST)]
    torch.testing.assert_close(logits_of(p, True), torch.tensor(odds).double(), rtol=1e-6, atol=0)


def test_the_prior_is_the_constant_with_the_least_loss() -> None:
    label = torch.tensor([0, 0, 0, 1, 2, 2])
    several = torch.tensor([[1.0, 0], [1, 1], [1, 0], [0, 0]])
    for truth, classes, kind in ((label, 3, "ce"), (several, 2, "bce")):
        prior = prior_logits(truth, classes).requires_grad_()
        task_loss(prior.expand(len(truth), -1), truth, kind).backward()
        assert prior.grad is not None and prior.grad.abs().max() < 1e-9
    assert prior_logits(label, 4).isfinite().all()  # a class that no sample has


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.width must be a multiple"):
        TableConfig.from_dict({"name": "table_only", "width": 20}, "method.")


def test_the_defaults_lie_in_the_search_spaces(name: str) -> None:
    module = methods.load(name)
    for field, wanted in module.SEARCH_SPACE.items():
        value = getattr(module.Config(), field.removeprefix("method."))
        values = getattr(wanted, "values", None)
        assert value in values if values else wanted.low <= value <= wanted.high
