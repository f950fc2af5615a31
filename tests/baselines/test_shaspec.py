"""ShaSpec: values by hand, a NumPy oracle, and what is wrong in public versions and is not here."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch
from checks import assert_all_learn, assert_one_pass_equals_three
from samples import MIXED, SCHEMA, SMALL, make_batch

from dfpl.baselines.shaspec import (
    SEARCH_SPACE,
    Config,
    Features,
    Model,
    Output,
    ResidualFusion,
    SharedHead,
    alignment_loss,
    domain_loss,
)
from dfpl.data.batch import Batch
from dfpl.encoders import Tokens
from dfpl.fields import ConfigError
from dfpl.method import objective

SWITCHES = [{}, {"shared_head": "mlp"}, {"task_loss": "bce"}, {"encode_missing": "skip"}]
PATTERNS = torch.tensor([[1, 1], [1, 0], [0, 1]]).bool()


def make_model(task: str = "multiclass", **values: Any) -> Model:
    torch.manual_seed(0)
    small = {name: value for name, value in SMALL.items() if name in Config.model_fields}
    config = Config.from_dict({**small, "task_loss": "ce", **values, "name": "shaspec"})
    return Model(config, SCHEMA.with_values({"task": task}))


def several_labels(batch: Batch) -> Batch:
    return batch._replace(label=(torch.arange(3 * len(MIXED)).view(-1, 3) % 5 < 2).float())


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def made_up_output(num_samples: int) -> Output:
    image, tabular = (Features(*draw(2, num_samples, 4, seed=seed)) for seed in (0, 1))
    return Output(draw(num_samples, 3, seed=2), image, tabular, draw(num_samples, 2, 2, seed=3))


def test_fused_features_by_hand() -> None:
    fusion = ResidualFusion(2)
    with torch.no_grad():  # Q [r; s] = (r_1 + 10 s_2, 100 s_1)
        fusion.map.weight.copy_(torch.tensor([[1.0, 0, 0, 10], [0, 0, 100, 0]]))
    image = Features(torch.tensor([[1.0, 2]] * 3), torch.tensor([[3.0, 4]] * 3))
    tabular = Features(torch.tensor([[5.0, 6]] * 3), torch.tensor([[7.0, 8]] * 3))
    own = [[1.0 + 1 + 40, 2 + 300], [5.0 + 5 + 80, 6 + 700]]
    expected = [own, [own[0], [1, 2]], [[5, 6], own[1]]]  # the missing one: the other's r alone
    assert torch.equal(fusion(image, tabular, PATTERNS), torch.tensor(expected))


def test_the_residual_is_on_the_shared_features() -> None:
    """A public version adds the map of both to the specific ones instead."""
    fusion = ResidualFusion(4).double()
    torch.nn.init.zeros_(fusion.map.weight)
    output = made_up_output(3)
    fused = fusion(output.image, output.tabular, PATTERNS)
    assert torch.equal(fused[0], torch.stack([output.image.shared[0], output.tabular.shared[0]]))
    assert torch.equal(fused[1, 0], fused[1, 1]) and torch.equal(fused[2, 0], fused[2, 1])


def test_what_is_absent_has_no_part_in_the_fusion() -> None:
    fusion, output = ResidualFusion(4).double(), made_up_output(3)
    leaves = [x.requires_grad_() for x in (*output.image, *output.tabular)]
    fusion(output.image, output.tabular, PATTERNS).sum().backward()
    image, tabular = leaves[:2], leaves[2:]
    for side, there in ((image, PATTERNS[:, 0]), (tabular, PATTERNS[:, 1])):
        for leaf in side:
            assert leaf.grad is not None
            assert (leaf.grad[~there] == 0).all() and leaf.grad[there].any(dim=1).all()


def test_one_head_reads_both_modalities() -> None:
    model = make_model()
    tokens = draw(2, 5, 16).float()
    seen = model._features(Tokens(tokens, tokens)).shared
    assert torch.equal(seen, model.shared_head(tokens))
    batch, heard = make_batch(MIXED), []
    model.shared_head.register_forward_hook(lambda _, inputs, __: heard.append(inputs[0].shape))
    model(batch)
    assert heard == [(8, 4, 16), (8, 5, 16)]  # 2 x 2 cells; CLS and 4 columns


@pytest.mark.parametrize("kind", ["transformer", "mlp"])
def test_the_shared_head_does_not_care_for_the_order_of_tokens(kind: Any) -> None:
    torch.manual_seed(0)
    head, tokens = SharedHead(kind, 16, 2).double(), draw(3, 6, 16)
    assert head(tokens).shape == (3, 16)
    torch.testing.assert_close(head(tokens.flip(1)), head(tokens))


def test_alignment_by_hand_counts_the_one_pair_of_modalities_once() -> None:
    image, tabular = torch.tensor([[1.0, 2], [0, 0]]), torch.tensor([[0.0, 4], [5, 5]])
    both = torch.tensor([True, True])
    # |1| and |-2|, mean 1.5; 5 and 5, mean 5
    assert alignment_loss(image, tabular, both).item() == pytest.approx(3.25)
    assert alignment_loss(tabular, image, both).item() == pytest.approx(3.25)
    assert alignment_loss(image, tabular, torch.tensor([True, False])).item() == 1.5


def test_domains_by_hand() -> None:
    # logits (ln 3, 0): the image's has probability 3/4 of the image, the table's 1/4 of the table
    domains = torch.tensor([[[log(3), 0.0], [log(3), 0.0]]]).expand(3, 2, 2)
    image, table = log(4 / 3), log(4)
    assert domain_loss(domains, PATTERNS).item() == pytest.approx((image + table) / 2)
    even = domain_loss(domains * 0, PATTERNS).item()
    assert even == pytest.approx(log(2))


def test_how_often_a_modality_is_missing_does_not_tilt_the_domain_term() -> None:
    domains = torch.tensor([[[log(3), 0.0], [log(3), 0.0]]]).expand(10, 2, 2)
    rare = torch.tensor([[1, 1]] + [[1, 0]] * 9).bool()
    expected = (log(4 / 3) + log(4)) / 2
    assert domain_loss(domains, rare).item() == pytest.approx(expected)


def test_both_auxiliary_terms_are_masked() -> None:
    """In the public code for segmentation neither is."""
    model, batch, output = make_model(), make_batch(MIXED), made_up_output(len(MIXED))
    has_image, has_table = batch.available.T
    image, tabular = (
        Features(side.shared.clone(), side.specific) for side in (output.image, output.tabular)
    )
    spoiled = Output(output.logits, image, tabular, output.domains.clone())
    spoiled.image.shared[~has_image] = 1e6
    spoiled.tabular.shared[~has_table] = -1e6
    spoiled.domains[~has_image, 0] = 1e6 * torch.tensor([-1.0, 1], dtype=torch.float64)
    spoiled.domains[~has_table, 1] = 1e6 * torch.tensor([1.0, -1], dtype=torch.float64)
    terms = model.losses(output, batch)
    assert model.losses(spoiled, batch) == terms
    lonely = batch._replace(available=torch.tensor([[1, 0]] * len(MIXED)).bool())
    assert model.losses(output, lonely)["distribution_alignment"] == 0


def test_the_domain_term_trains_specific_branches_and_no_shared_one() -> None:
    """A public version classifies the shared features, which is the opposite of what is meant."""
    model, batch = make_model(), make_batch(MIXED)
    model.losses(model(batch), batch)["domain_classification"].backward()
    learning = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ("image_encoder.shared", "tabular_encoder.shared", "shared_head", "fusion"):
        assert not [name for name in learning if name.startswith(part)]
    for part in ("image_encoder.specific", "tabular_encoder.specific", "domain_classifier"):
        assert [name for name in learning if name.startswith(part)]


def expected_terms(output: Output, batch: Batch, kind: str) -> dict[str, float]:
    """Every term, sample by sample, from its equation."""
    label, available = batch.label.numpy(), batch.available.numpy().astype(bool)
    tasks, gaps, domains = [], [], ([], [])
    for b, logits in enumerate(output.logits.numpy()):
        if kind == "ce":
            tasks += [np.log(np.exp(logits).sum()) - logits[label[b]]]
        else:
            p = 1 / (1 + np.exp(-logits))
            target = label[b] if label.ndim == 2 else np.eye(3)[label[b]]
            tasks += [-(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()]
        if available[b].all():
            gap = output.image.shared[b].numpy() - output.tabular.shared[b].numpy()
            gaps += [np.abs(gap).mean()]
        for m in range(2):
            said = np.exp(output.domains[b, m].numpy())
            if available[b, m]:
                domains[m].append(-np.log(said[m] / said.sum()))
    return {
        "task": float(np.mean(tasks)),
        "distribution_alignment": float(np.mean(gaps)),
        "domain_classification": float(np.mean(domains[0]) + np.mean(domains[1])) / 2,
    }


@pytest.mark.parametrize(
    ("task", "kind"), [("multiclass", "ce"), ("multiclass", "bce"), ("multilabel", "bce")]
)
def test_every_term_equals_the_oracle(task: str, kind: str) -> None:
    model = make_model(task, task_loss=kind)
    batch = make_batch(MIXED)
    batch = several_labels(batch) if task == "multilabel" else batch
    output = made_up_output(len(MIXED))
    terms = model.losses(output, batch)
    expected = expected_terms(output, batch, kind)
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        assert term.item() == pytest.approx(expected[name], rel=1e-9), name
    weighted = (
        expected["task"]
        + 0.1 * expected["distribution_alignment"]
        + 0.02 * expected["domain_classification"]
    )
    assert objective(model, terms).item() == pytest.approx(weighted, rel=1e-9)


def test_the_classifier_equals_its_equation() -> None:
    model = make_model().double().eval()
    image, tabular = (Features(*draw(2, 3, 16, seed=seed)) for seed in (0, 1))
    logits = model._classify(image, tabular, PATTERNS)
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    for b, (has_image, has_table) in enumerate(PATTERNS.tolist()):
        r = [image.shared[b].numpy(), tabular.shared[b].numpy()]
        s = [image.specific[b].numpy(), tabular.specific[b].numpy()]
        f = [r[m] + weights["fusion.map.weight"] @ np.concatenate([r[m], s[m]]) for m in range(2)]
        f = [f[0] if has_image else r[1], f[1] if has_table else r[0]]
        hidden = weights["hidden.weight"] @ np.concatenate(f) + weights["hidden.bias"]
        hidden = np.maximum(hidden, 0)
        expected = weights["classifier.weight"] @ hidden + weights["classifier.bias"]
        np.testing.assert_allclose(logits[b].detach(), expected, rtol=1e-9)


def test_dropout_is_drawn_anew_in_each_step_and_not_in_evaluation() -> None:
    model, ones = make_model(dropout=0.25), torch.ones(400, 16)
    first = model._dropped(ones)
    assert torch.equal(model._dropped(ones), first)  # the same step meets the same numbers
    kept = first != 0
    torch.testing.assert_close(first[kept], torch.full_like(first[kept], 1 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    model.after_step()
    assert not torch.equal(model._dropped(ones), first)
    assert torch.equal(model.eval()._dropped(ones), ones)


@pytest.mark.parametrize("values", SWITCHES)
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_every_switch_trains_all_parameters(values: dict[str, Any], task: str) -> None:
    model, batch = make_model(task, **values), make_batch(MIXED)
    batch = several_labels(batch) if task == "multilabel" else batch
    assert_all_learn(model, batch)


@pytest.mark.parametrize("values", SWITCHES)
def test_one_pass_over_the_states_equals_three_forward_passes(values: dict[str, Any]) -> None:
    assert_one_pass_equals_three(make_model(**values))


@pytest.mark.parametrize("width", [256, 512])
def test_the_papers_widths_train(width: int) -> None:
    model = make_model(width=width, tabular_heads=8)
    batch = make_batch([(1, 1), (1, 0), (0, 1)])
    output = model(batch)
    assert output.image.shared.shape == (3, width)
    assert all(term.isfinite() for term in model.losses(output, batch).values())


def test_the_defaults_are_the_papers_and_lie_in_the_search_space() -> None:
    config = Config()
    assert (config.alpha, config.beta, config.dropout) == (0.1, 0.02, 0.5)
    for name, wanted in SEARCH_SPACE.items():
        assert wanted.low <= getattr(config, name.removeprefix("method.")) <= wanted.high
    with pytest.raises(ConfigError, match=r"method\.width must be a multiple"):
        Config.from_dict({"width": 20}, "method.")
