"""DMRNet: its terms by hand, which combination is hard, and the faults of the public code."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from samples import MIXED, SCHEMA, SMALL, make_batch, make_packed, make_run
from torch.distributions import Normal, kl_divergence

from dfpl.baselines.dmrnet import (
    SEARCH_SPACE,
    CombinationWatch,
    Config,
    Embedding,
    Model,
    combinations,
    gaussian_divergence,
    hard_combination_loss,
)
from dfpl.fields import ConfigError
from dfpl.method import STATES, Method, objective
from dfpl.train import Runtime, fit

IMAGE_ONLY, TABLE_ONLY = [[True, False]], [[False, True]]


def make_model(schema: Any = SCHEMA, **values: Any) -> Model:
    torch.manual_seed(0)
    small = {name: value for name, value in SMALL.items() if name in Config.model_fields}
    return Model(
        Config.from_dict({**small, "tabular_depth": 1, "name": "dmrnet", **values}), schema
    )


def test_the_divergence_by_hand() -> None:
    # sample 0: standard normal, 0; sample 1: mu = (1, 2), sigma^2 = 1, so (1 + 4) / 2
    mean = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    assert gaussian_divergence(mean, torch.zeros(2, 2)) == pytest.approx(1.25)


def test_the_divergence_is_that_of_torch_and_a_sum_over_dimensions() -> None:
    mean, log_variance = torch.randn(5, 7), torch.randn(5, 7)
    of = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    found = gaussian_divergence(mean, log_variance)
    torch.testing.assert_close(found, of.sum(dim=1).mean())


@pytest.mark.parametrize("width", [256, 512])
def test_the_divergence_at_the_start_is_what_batch_normalisation_makes_it(width: int) -> None:
    # mu and log sigma^2 standard normal: (E e^x + 1 - 0 - 1) / 2 = e^0.5 / 2 per dimension
    torch.manual_seed(0)
    embedding = Embedding(2 * width)
    value = gaussian_divergence(*embedding(torch.randn(512, 2 * width)))
    assert value.item() == pytest.approx(0.8244 * 2 * width, rel=0.05)


def test_the_divergence_trains_mean_and_variance() -> None:
    model = make_model()
    batch = make_batch(MIXED)
    model.losses(model(batch), batch)["divergence"].backward()
    for layer in (model.embedding.mean, model.embedding.log_variance):
        assert layer.weight.grad is not None and layer.weight.grad.any()


def test_the_hard_combination_by_hand() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    hard = torch.tensor([True, False, True, False])
    selective = hard_combination_loss(losses, hard, "selective")
    selective.backward()
    assert selective == (1 + 4) / 4
    assert losses.grad is not None and losses.grad.tolist() == [0.25, 0, 0.25, 0]
    assert hard_combination_loss(losses, torch.zeros(4, dtype=torch.bool), "selective") == 0


def test_the_published_form_is_the_broadcast_of_the_public_code() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0])
    hard = torch.tensor([True, False, True, False])
    spread = (losses * hard.float().view(4, 1, 1, 1)).sum() / 4  # (4, 1, 1, 4): all pairs
    assert hard_combination_loss(losses, hard, "published") == spread == 7.5


def watched(hard_from: int, *steps: tuple[list[list[bool]], list[float]]) -> CombinationWatch:
    """After one epoch of these steps: availability, and sigma^2 of each sample."""
    watch = CombinationWatch(hard_from)
    for available, variance in steps:
        log_variance = torch.tensor(variance).log()[:, None].expand(-1, 3)
        watch.add(log_variance, torch.tensor(available))
        watch.in_epoch = True
    watch.end_epoch()
    return watch


def test_the_hard_combination_is_the_one_of_larger_variance_over_all_steps() -> None:
    # images 1 and 4 (mean 2.5), tables 3 (mean 3); pairs do not count
    steps = [(IMAGE_ONLY * 2, [1.0, 4.0]), ([*TABLE_ONLY, [True, True]], [3.0, 100.0])]
    watch = watched(1, *steps)
    everyone = torch.tensor([[True, True], [True, False], [False, True]])
    assert watch.variance.tolist() == pytest.approx([100, 5, 3])
    assert watch.count.tolist() == [1, 2, 1]
    assert watch.is_hard(everyone).tolist() == [False, False, True]
    watch = watched(1, steps[0], (TABLE_ONLY, [2.0]))
    assert watch.is_hard(everyone).tolist() == [False, True, False]


def test_nobody_is_hard_before_the_epoch_and_nothing_is_summed_after_it() -> None:
    watch = watched(2, (TABLE_ONLY, [3.0]))
    assert not watch.is_hard(torch.tensor(TABLE_ONLY)).any()
    watch.in_epoch = True
    watch.end_epoch()
    assert watch.is_hard(torch.tensor(TABLE_ONLY)).all()
    watch.add(torch.ones(1, 3), torch.tensor(IMAGE_ONLY))
    assert watch.count.tolist() == [0, 0, 1]


@pytest.mark.parametrize("only", [IMAGE_ONLY, TABLE_ONLY])
def test_the_only_incomplete_combination_is_the_hard_one(only: list[list[bool]]) -> None:
    # a step without it, at which the public code becomes NaN, leaves everything finite
    watch = watched(1, ([[True, True]], [9.0]), (only, [0.1]), ([[True, True]], [9.0]))
    assert watch.variance.isfinite().all()
    assert watch.is_hard(torch.tensor([*IMAGE_ONLY, *TABLE_ONLY, *only])).tolist()[2]
    assert watch.is_hard(torch.tensor([*IMAGE_ONLY, *TABLE_ONLY])).sum() == 1


def test_without_incomplete_samples_nobody_is_hard() -> None:
    watch = watched(1, ([[True, True]], [9.0]))
    assert not watch.is_hard(torch.tensor([[True, True], *IMAGE_ONLY, *TABLE_ONLY])).any()


def test_combinations_are_in_the_order_of_the_states() -> None:
    assert combinations(torch.tensor(list(STATES.values()))).equal(torch.eye(3).bool())


def test_outside_of_training_the_embedding_is_its_mean() -> None:
    model, batch = make_model().eval(), make_batch(MIXED)
    found = model(batch)
    torch.testing.assert_close(found.logits, model.classifier(found.mean))
    model.after_step()
    assert torch.equal(model(batch).logits, found.logits)
    assert torch.equal(found.available, batch.available) and not found.hard.any()


def test_in_training_each_step_draws_anew_and_repeats_itself() -> None:
    model, batch = make_model(), make_batch([(1, 1), (1, 0), (0, 1)] * 8)
    first, again = model(batch), model(batch)
    assert torch.equal(first.logits, again.logits)
    model.after_step()
    other = model(batch)
    assert not torch.equal(first.logits, other.logits)
    assert not torch.equal(first.available, other.available)
    assert (first.available <= batch.available).all() and first.available.any(dim=1).all()


def test_the_noise_has_the_standard_deviation_of_the_embedding() -> None:
    model, batch = make_model(drop="none"), make_batch(MIXED)
    with torch.no_grad():
        torch.nn.init.eye_(model.classifier.weight)
    means, found = [], []
    for _ in range(400):
        output = model(batch)
        means.append((output.mean @ model.classifier.weight.T + model.classifier.bias).detach())
        found.append(output.logits.detach())
        model.after_step()
    spread = (torch.stack(found) - torch.stack(means)).std(dim=0)
    expected = (output.log_variance / 2).exp()[:, :3].detach()
    torch.testing.assert_close(spread, expected, rtol=0.2, atol=0)


def test_only_combinations_of_the_data_are_drawn_unless_all_are_asked_for() -> None:
    def drawn(drop: str, available: list[tuple[int, int]]) -> set[tuple[bool, ...]]:
        model = make_model(drop=drop)
        return {tuple(row) for row in model(make_batch(available)).available.tolist()}

    without_tables = [(1, 1)] * 30 + [(1, 0)]
    assert drawn("observed", without_tables) == {(True, True), (True, False)}
    assert drawn("observed", [(1, 1)] * 30) == {(True, True)}
    assert drawn("all", [(1, 1)] * 30) == set(STATES.values())
    assert drawn("none", without_tables) == {(True, True), (True, False)}


def test_the_hard_samples_are_penalised_by_their_losses_alone() -> None:
    model, batch = make_model(drop="none", sampling=False, hard_from=1), make_batch(MIXED)
    terms = model.losses(model(batch), batch)
    assert terms["hard_combination"] == 0
    model.watch.epoch.fill_(1)
    output = model(batch)
    assert output.hard.sum() == 2  # MIXED has two samples of each incomplete combination
    terms = model.losses(output, batch)
    truth = torch.eye(3)[batch.label]
    losses = F.binary_cross_entropy_with_logits(output.logits, truth, reduction="none").mean(dim=1)
    torch.testing.assert_close(terms["hard_combination"], losses[output.hard].sum() / len(MIXED))
    total = terms["task"] + 1e-3 * terms["divergence"] + 0.2 * terms["hard_combination"]
    torch.testing.assert_close(objective(model, terms), total)


def test_the_loop_counts_the_epochs() -> None:
    packed = make_packed(40)
    values = {"name": "dmrnet", "hard_from": 1, "width": 16, "image_network": "small"}
    run = make_run(packed, optim__epochs=3)
    run = type(run).from_dict(
        {**run.to_dict(), "method": {**values, "tabular_heads": 2, "tabular_depth": 1}}
    )
    fitted = fit(run, packed, Runtime())
    terms = [row["train/hard_combination"] for row in fitted.rows]
    assert terms[0] == 0 and terms[1] > 0 and terms[2] > 0
    method: Any = fitted.method
    assert method.watch.epoch == fitted.best_epoch


def test_saved_weights_go_on_with_the_same_draws() -> None:
    first, second, batch = make_model(), make_model(), make_batch(MIXED)
    second.noise.seed += 1
    for _ in range(3):
        first(batch)
        first.after_step()
    first.eval()
    second.load_state_dict(first.state_dict())
    assert second.watch.epoch == 1
    assert torch.equal(first.train()(batch).logits, second.train()(batch).logits)


def test_one_pass_over_the_states_equals_three_forward_passes() -> None:
    model, batch = make_model().eval(), make_batch([(1, 1)] * 4)
    for state, logits in Method.state_logits(model, batch).items():
        torch.testing.assert_close(model.state_logits(batch)[state], logits, rtol=1e-5, atol=1e-6)


def test_one_sample_alone_trains() -> None:
    model, batch = make_model(), make_batch([(1, 1)])
    terms = model.losses(model(batch), batch)
    objective(model, terms).backward()
    assert model.embedding.mean.weight.grad is not None
    assert model.embedding.mean.weight.grad.isfinite().all()
    assert model.embedding.mean.weight.grad.any()


def test_the_log_variance_is_held_where_its_exponential_is_harmless() -> None:
    embedding = Embedding(4)
    torch.nn.init.constant_(embedding.log_variance_norm.weight, 1e6)
    _, log_variance = embedding(torch.randn(8, 4))
    assert log_variance.abs().max() == 10


@pytest.mark.parametrize("width", [256, 512])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_sizes_of_the_paper(width: int, task: str) -> None:
    model = make_model(SCHEMA.with_values({"task": task}), width=width, tabular_heads=8)
    batch = make_batch(MIXED)
    if task == "multilabel":
        batch = batch._replace(label=torch.eye(3)[batch.label])
    size = sum(parameter.numel() for parameter in model.embedding.parameters())
    assert size == 2 * (2 * width) ** 2 + 4 * 2 * width
    assert model.classifier.weight.shape == (3, 2 * width)
    terms = model.losses(model(batch), batch)
    assert all(term.isfinite() for term in terms.values())
    assert model.task_loss == "bce"


def test_the_defaults_are_the_papers_and_lie_in_the_search_space() -> None:
    config = Config()
    assert (config.alpha, config.beta, config.hard_from) == (1e-3, 0.2, 6)
    for name, wanted in SEARCH_SPACE.items():
        assert wanted.low <= getattr(config, name.removeprefix("method.")) <= wanted.high


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.width must be a multiple"):
        Config.from_dict({"width": 20}, "method.")
