"""Late fusion: two classifiers apart, and the mean of their probabilities."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch
from samples import MIXED, SCHEMA, SMALL, make_batch

from dfpl.baselines.late_fusion import Config, Model, mean_logits
from dfpl.data.batch import Batch
from dfpl.method import objective
from dfpl.unimodal import ImageClassifier, TableClassifier

PATTERNS = torch.tensor([[1, 1], [1, 0], [0, 1]]).bool()


def make_model(task: str = "multiclass", **values: Any) -> Model:
    torch.manual_seed(0)
    small = {name: value for name, value in SMALL.items() if name in Config.model_fields}
    config = Config.from_dict({**small, "task_loss": "ce", **values, "name": "late_fusion"})
    return Model(config, SCHEMA.with_values({"task": task}))


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_mean_by_hand() -> None:
    # softmax (3/4, 1/4) and (1/4, 3/4) average to (1/2, 1/2); alone each stays what it is
    logits = torch.tensor([[[log(3), 0.0], [0.0, log(3)]]]).expand(3, 2, 2)
    found = mean_logits(logits, PATTERNS, multilabel=False)
    expected = [[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]
    torch.testing.assert_close(found.exp(), torch.tensor(expected))
    # sigma (3/4, 1/2) and (1/2, 3/4) average to 5/8, whose logit is ln(5/3)
    found = mean_logits(logits, PATTERNS, multilabel=True)
    expected = [[log(5 / 3)] * 2, [log(3), 0], [0, log(3)]]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_mean_equals_that_of_probabilities_and_is_finite_far_out(multilabel: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64)

    def probabilities(z: np.ndarray) -> np.ndarray:
        if multilabel:
            return 1 / (1 + np.exp(-z))
        return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)

    found = mean_logits(logits, PATTERNS, multilabel).numpy()
    for row, z, there in zip(found, logits.numpy(), PATTERNS.numpy(), strict=True):
        mean = probabilities(z)[there].mean(axis=0)
        np.testing.assert_allclose(probabilities(row), mean, rtol=1e-9)
    far = torch.tensor([[[300.0, -300.0], [300.0, 300.0]]]).expand(3, 2, 2)
    assert mean_logits(far, PATTERNS, multilabel).isfinite().all()


def test_what_is_absent_says_nothing() -> None:
    logits = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    spoiled = torch.where(PATTERNS[..., None], logits, torch.nan)
    for multilabel in (False, True):
        expected = mean_logits(logits, PATTERNS, multilabel)
        assert torch.equal(mean_logits(spoiled, PATTERNS, multilabel), expected)


@pytest.mark.parametrize(("term", "side"), [("image_task", "image"), ("tabular_task", "tabular")])
def test_a_loss_trains_its_own_classifier_alone(term: str, side: str) -> None:
    model, batch = make_model(), make_batch(MIXED)
    model.losses(model(batch), batch)[term].backward()
    moved = {name for name, gradient in gradients(model).items() if gradient.any()}
    assert moved == {name for name, _ in model.named_parameters() if name.startswith(f"{side}.")}


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_each_classifier_learns_as_it_would_alone_from_the_samples_that_have_it(task: str) -> None:
    """In training mode: the batch statistics are of those samples, too."""
    model, batch = make_model(task), make_batch(MIXED)
    if task == "multilabel":
        batch = batch._replace(label=(torch.arange(3 * len(MIXED)).view(-1, 3) % 5 < 2).float())
    objective(model, model.losses(model(batch), batch)).backward()
    for column, (side, kind) in enumerate(
        {"image": ImageClassifier, "tabular": TableClassifier}.items()
    ):
        alone = kind(model.config, SCHEMA)
        alone.load_state_dict(getattr(make_model(task), side).state_dict())
        there = batch.available[:, column]
        own = Batch(*(part[there] for part in batch))
        logits = alone(own)
        loss = (
            torch.nn.functional.binary_cross_entropy_with_logits(logits, own.label)
            if task == "multilabel"
            else torch.nn.functional.cross_entropy(logits, own.label)
        )
        loss.backward()
        found = gradients(getattr(model, side))
        for name, gradient in gradients(alone).items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_fused_logits_train_nothing() -> None:
    model, batch = make_model(), make_batch(MIXED)
    output = model(batch)
    terms = model.losses(output._replace(logits=output.logits * torch.nan), batch)
    assert terms == model.losses(output, batch)
