"""DrFuse: values by hand, a NumPy oracle, and what is wrong in its public code and is not here."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch
from checks import assert_all_learn, assert_one_pass_equals_three
from samples import MIXED, SCHEMA, SMALL, make_batch

from dfpl.baselines.drfuse import (
    RANKED,
    SEARCH_SPACE,
    ClassWiseAttention,
    Config,
    Model,
    Output,
    Vectors,
    pool_shared,
    ranking_loss,
)
from dfpl.data.batch import Batch
from dfpl.fields import ConfigError
from dfpl.method import objective
from dfpl.prototypes import divergence_loss

IMAGE, SHARED, TABULAR = range(3)
SWITCHES = [{}, {"pool": "mean"}, {"task_loss": "bce"}, {"encode_missing": "skip"}]
ALL = torch.ones(1, dtype=torch.bool)


def make_model(task: str = "multiclass", **values: Any) -> Model:
    torch.manual_seed(0)
    small = {name: value for name, value in SMALL.items() if name in Config.model_fields}
    config = Config.from_dict({**small, "task_loss": "ce", **values, "name": "drfuse"})
    return Model(config, SCHEMA.with_values({"task": task}))


def several_labels(batch: Batch) -> Batch:
    return batch._replace(label=(torch.arange(3 * len(MIXED)).view(-1, 3) % 5 < 2).float())


def row(values: list[list[float]]) -> torch.Tensor:
    """(1, R, 3) of one sample: image, shared, tabular of each class."""
    return torch.tensor([values])


def made_up_output(num_samples: int, seed: int = 0) -> Output:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(num_samples, *shape, generator=generator, dtype=torch.float64)

    attention = draw(3, 3).softmax(dim=-1)
    image, tabular = Vectors(draw(4), draw(4)), Vectors(draw(4), draw(4))
    return Output(draw(3), attention, draw(3, 3), image, tabular)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_pooled_logits_by_hand() -> None:
    # sigma(0) = 1/2 and sigma(ln 3) = 3/4: the mean 5/8 has the logit ln(5/3)
    a, b = torch.tensor([[0.0]]), torch.tensor([[log(3)]])
    torch.testing.assert_close(pool_shared(a, b, "logit"), torch.tensor([[log(5 / 3)]]))
    torch.testing.assert_close(pool_shared(a, b, "mean"), torch.tensor([[log(3) / 2]]))


@pytest.mark.parametrize("pool", ["logit", "mean"])
def test_pooling_is_symmetric_lies_between_and_keeps_what_is_equal(pool: Any) -> None:
    a, b = 3 * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    pooled = pool_shared(a, b, pool)
    assert torch.equal(pooled, pool_shared(b, a, pool))
    assert (pooled >= torch.minimum(a, b) - 1e-6).all()
    assert (pooled <= torch.maximum(a, b) + 1e-6).all()
    torch.testing.assert_close(pool_shared(a, a, pool), a)


def test_pooling_equals_the_logit_of_the_mean_and_is_finite_far_out() -> None:
    a, b = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = (a.sigmoid() + b.sigmoid()) / 2
    torch.testing.assert_close(pool_shared(a, b, "logit"), mean.logit())
    far = torch.tensor([[200.0, -200.0, 200.0]], requires_grad=True)
    other = torch.tensor([[200.0, -200.0, -200.0]])
    pooled = pool_shared(far, other, "logit")
    pooled.sum().backward()
    torch.testing.assert_close(pooled, torch.tensor([[200.0, -200.0, 0.0]]))
    assert far.grad is not None and far.grad.isfinite().all()


def test_the_attention_equals_keys_made_for_every_class() -> None:
    """An oracle that makes all keys, and reads the diagonal of a linear map of all features."""
    B, C, D = len(MIXED), 3, 8
    torch.manual_seed(0)
    fusion = ClassWiseAttention(C, D).double()
    slots = torch.randn(B, 3, D, dtype=torch.float64)
    visible = torch.tensor([[i, 1, t] for i, t in MIXED]).bool()
    logits, attention = fusion(slots, visible)
    weights = {name: p.detach().numpy() for name, p in fusion.named_parameters()}
    keys = weights["key.weight"].reshape(C, D, D).transpose(0, 2, 1)
    for b, (x, there) in enumerate(zip(slots.numpy(), visible.numpy(), strict=True)):
        query = (x @ weights["query.weight"].T + weights["query.bias"])[there].mean(axis=0)
        value = x @ weights["value.weight"].T + weights["value.bias"]
        features = np.zeros((C, D))
        for c in range(C):
            score = np.exp((x @ keys[c].T) @ query / np.sqrt(D)) * there
            np.testing.assert_allclose(attention[b, c].detach(), score / score.sum(), rtol=1e-9)
            features[c] = score / score.sum() @ value
        every = features @ weights["classify.weight"].T + weights["classify.bias"]  # (C, C)
        np.testing.assert_allclose(logits[b].detach(), np.diag(every), rtol=1e-9)


def test_the_attention_is_a_distribution_over_what_is_there() -> None:
    batch = make_batch(MIXED)
    attention = make_model()(batch).attention
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(len(MIXED), 3))
    assert (attention[~batch.available[:, 0]][..., IMAGE] == 0).all()
    assert (attention[~batch.available[:, 1]][..., TABULAR] == 0).all()
    assert (attention[..., SHARED] > 0).all()
    assert (attention[batch.available.all(dim=1)] > 0).all()


@pytest.mark.parametrize("available", [(1, 0), (0, 1)])
def test_one_sample_without_a_modality_hides_its_slot_and_not_its_last_class(
    available: tuple[int, int],
) -> None:
    """The code's mask of a batch of one is a scalar: it hides the last class of all slots."""
    output = make_model().eval()(make_batch([available]))
    assert output.logits.isfinite().all()
    hidden = TABULAR if available[0] else IMAGE
    assert (output.attention[..., hidden] == 0).all()
    assert (output.attention[..., SHARED] > 0).all()


def test_the_divergence_is_that_of_the_sigmoids_and_bounded() -> None:
    a, b = torch.randn(2, 64, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    everyone = torch.ones(64, dtype=torch.bool)
    u, w = sigmoid(a.numpy()), sigmoid(b.numpy())
    middle = (u + w) / 2
    expected = 0.5 * (u * np.log(u / middle) + w * np.log(w / middle)).sum() / 64
    found = divergence_loss(a, b, everyone, "sigmoid").item()
    assert found == pytest.approx(expected, rel=1e-9)
    assert found == pytest.approx(6.1, abs=0.3)  # seen in the public code for such vectors
    assert divergence_loss(b, a, everyone, "sigmoid").item() == pytest.approx(found)
    assert abs(divergence_loss(a, a, everyone, "sigmoid").item()) < 1e-12
    # the most that an element adds is ln 2 / 2: one sigmoid is 1, the other 0
    extreme = divergence_loss(a * 0 + 200, a * 0 - 200, everyone, "sigmoid").item()
    assert extreme == pytest.approx(256 * log(2) / 2)


@pytest.mark.parametrize("pairs", [0, 1, 8])
def test_samples_without_a_pair_are_not_aligned(pairs: int) -> None:
    """The code sums over all samples and divides by the pairs, or by 1e-6 where there is none."""
    batch = make_batch([(1, 1)] * pairs + [(0, 1)] * (16 - pairs))
    model = make_model()
    output = made_up_output(16)
    per_sample = [
        divergence_loss(
            output.image.shared[i, None], output.tabular.shared[i, None], ALL, "sigmoid"
        )
        for i in range(pairs)
    ]
    found = model.losses(output, batch)["alignment"].item()
    assert found == pytest.approx(sum(x.item() for x in per_sample) / max(pairs, 1))
    other = output.image._replace(shared=output.image.shared.clone())
    other.shared[pairs:] = 1e4
    assert model.losses(output._replace(image=other), batch)["alignment"].item() == found


def test_activations_far_below_zero_keep_all_terms_and_gradients_finite() -> None:
    """A sigmoid of -120 is 0 in float32, and its logarithm infinite."""
    model, batch = make_model(), make_batch(MIXED)
    with torch.no_grad():
        last: Any = model.project[-1]
        last.bias.fill_(-120)
    terms = model.losses(model(batch), batch)
    assert all(term.isfinite() for term in terms.values())
    objective(model, terms).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_slot_with_lower_loss_and_higher_attention_is_ranked_well() -> None:
    attention, losses = row([[0.5, 0.3, 0.2]]), row([[0.1, 0.4, 0.9]])
    assert ranking_loss(attention, losses, ALL) == 0
    # the image is best but has least: image/tabular and shared/image are 0.3 and 0.1 off,
    # shared/tabular 0.2
    wrong = ranking_loss(row([[0.2, 0.3, 0.5]]), losses, ALL)
    torch.testing.assert_close(wrong, torch.tensor((0.3 + 0.2 + 0.1) / 3))


def test_the_ranking_is_a_mean_over_violations_and_not_over_entries() -> None:
    losses = row([[0.1, 0.4, 0.9], [0.1, 0.4, 0.9]])
    one_wrong = row([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    torch.testing.assert_close(ranking_loss(one_wrong, losses, ALL), torch.tensor(0.6 / 3))
    both_wrong = row([[0.3, 0.3, 0.4], [0.2, 0.3, 0.5]])
    expected = ((0.1 + 0.3) / 2 + (0.1 + 0.2) / 2 + 0.1) / 3
    torch.testing.assert_close(ranking_loss(both_wrong, losses, ALL), torch.tensor(expected))


def test_the_ranking_moves_the_attention_of_pairs_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand(4, 3, 3, generator=generator).requires_grad_()
    losses = torch.rand(4, 3, 3, generator=generator).requires_grad_()
    paired = torch.tensor([True, False, True, False])
    ranking_loss(attention, losses, paired).backward()
    assert losses.grad is None and attention.grad is not None
    assert (attention.grad[~paired] == 0).all() and attention.grad[paired].any()
    assert ranking_loss(attention, losses, torch.zeros(4, dtype=torch.bool)) == 0


def test_the_cosine_terms_by_hand_and_of_any_length() -> None:
    batch, model = make_batch([(1, 1), (1, 0), (0, 1)]), make_model()
    image = Vectors(
        torch.tensor([[2.0, 0], [1, 1], [1, 0]]), torch.tensor([[-1.2, 1.6], [1, -1], [1, 0]])
    )
    tabular = Vectors(
        torch.tensor([[1.0, 0], [1, 0], [0, 3]]), torch.tensor([[0.0, 5], [1, 0], [0, 7]])
    )
    output = made_up_output(3)._replace(image=image, tabular=tabular)
    terms = model.losses(output, batch)
    # |cos| of the image: 0.6, 0, absent; of the table: 0, absent, 1
    assert terms["image_disentanglement"].item() == pytest.approx(0.3)
    assert terms["tabular_disentanglement"].item() == pytest.approx(0.5)
    longer = output._replace(image=image._replace(shared=image.shared * 7))
    assert model.losses(longer, batch)["image_disentanglement"].item() == pytest.approx(0.3)


def expected_terms(output: Output, batch: Batch, kind: str) -> dict[str, float]:
    """Every term, sample by sample, from its equation."""
    label, available = batch.label.numpy(), batch.available.numpy().astype(bool)

    def losses_of(logits: np.ndarray, b: int) -> np.ndarray:
        if kind == "ce":
            return np.array([np.log(np.exp(logits).sum()) - logits[label[b]]])
        target = label[b] if label.ndim == 2 else np.eye(3)[label[b]]
        p = sigmoid(logits)
        return -(target * np.log(p) + (1 - target) * np.log(1 - p))

    B = len(label)
    logits, heads = output.logits.numpy(), output.heads.numpy()
    found: dict[str, list[float]] = {"task": [losses_of(logits[b], b).mean() for b in range(B)]}
    for n, slot in enumerate(("image", "shared", "tabular")):
        there = {"image": available[:, 0], "tabular": available[:, 1]}.get(slot, np.ones(B, bool))
        found[f"{slot}_task"] = [losses_of(heads[b, :, n], b).mean() for b in range(B) if there[b]]
    pairs = [b for b in range(B) if available[b].all()]
    found["alignment"] = []
    for b in pairs:
        u = sigmoid(output.image.shared[b].numpy())
        w = sigmoid(output.tabular.shared[b].numpy())
        m = (u + w) / 2
        found["alignment"] += [0.5 * (u * np.log(u / m) + w * np.log(w / m)).sum()]
    for column, name in enumerate(("image", "tabular")):
        side = getattr(output, name)
        found[f"{name}_disentanglement"] = []
        for b in range(B):
            s, h = side.shared[b].numpy(), side.specific[b].numpy()
            if available[b, column]:
                cosine = s @ h / np.linalg.norm(s) / np.linalg.norm(h)
                found[f"{name}_disentanglement"] += [abs(cosine)]
    terms = {name: float(np.mean(values)) for name, values in found.items()}
    orders = []
    for first, second in RANKED:
        violations = []
        for b in pairs:
            own = np.stack([losses_of(heads[b, :, n], b) for n in range(3)], axis=-1)
            rows = output.attention[b].numpy()
            rows = rows[[label[b]]] if kind == "ce" else rows
            for e, a in zip(own, rows, strict=True):
                t = 1 if e[first] < e[second] else -1
                violations += [max(0.0, -t * (a[first] - a[second]))]
        above = [v for v in violations if v > 0]
        orders += [sum(above) / max(len(above), 1)]
    return {**terms, "ranking": float(np.mean(orders))}


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
    weighted = sum(model.weight(name) * value for name, value in expected.items())
    assert objective(model, terms).item() == pytest.approx(weighted, rel=1e-9)


def test_the_terms_do_not_depend_on_the_order_of_the_samples() -> None:
    model, batch, output = make_model(), make_batch(MIXED), made_up_output(len(MIXED))
    order = torch.randperm(len(MIXED), generator=torch.Generator().manual_seed(0))
    image, tabular = (Vectors(*(x[order] for x in side)) for side in (output.image, output.tabular))
    mixed = Output(
        output.logits[order], output.attention[order], output.heads[order], image, tabular
    )
    terms = model.losses(mixed, Batch(*(x[order] for x in batch)))
    for name, term in model.losses(output, batch).items():
        torch.testing.assert_close(terms[name], term)


def test_no_term_of_the_image_moves_what_was_read_where_it_is_absent() -> None:
    model, batch = make_model(), make_batch(MIXED)
    output = made_up_output(len(MIXED))
    leaves = [x.requires_grad_() for x in (*output.image, *output.tabular)]
    objective(model, model.losses(output, batch)).backward()
    for column, pair in enumerate((leaves[:2], leaves[2:])):
        for leaf in pair:
            assert leaf.grad is not None
            assert (leaf.grad[~batch.available[:, column]] == 0).all()
            assert leaf.grad[batch.available[:, column]].any(dim=1).all()


@pytest.mark.parametrize("values", SWITCHES)
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_every_switch_trains_all_parameters(values: dict[str, Any], task: str) -> None:
    model, batch = make_model(task, **values), make_batch(MIXED)
    batch = several_labels(batch) if task == "multilabel" else batch
    assert_all_learn(model, batch)


@pytest.mark.parametrize("values", SWITCHES)
def test_one_pass_over_the_states_equals_three_forward_passes(values: dict[str, Any]) -> None:
    assert_one_pass_equals_three(make_model(**values))


def test_sizes_are_those_of_the_public_code_but_for_the_biases_of_the_keys() -> None:
    """At D = 256 and 25 classes: 328,704, 1,776,384 (6,400 of them those biases) and 6,425."""
    schema = SCHEMA.with_values({"class_names": [f"class {c}" for c in range(25)]})
    model = Model(Config.from_dict({"width": 256, "image_network": "small"}), schema)

    def size(*parts: torch.nn.Module) -> int:
        return sum(p.numel() for part in parts for p in part.parameters())

    attention = model.attention
    assert size(model.project) == 328_704
    assert size(attention.query, attention.key, attention.value) == 1_776_384 - 6_400
    assert size(attention.classify) == 6_425


@pytest.mark.parametrize("width", [256, 512])
def test_the_papers_widths_train(width: int) -> None:
    model = make_model(width=width, tabular_heads=8)
    batch = make_batch([(1, 1), (1, 0), (0, 1)])
    output = model(batch)
    assert output.image.shared.shape == (3, width)
    terms = model.losses(output, batch)
    assert all(term.isfinite() for term in terms.values())


def test_the_defaults_are_the_papers_and_lie_in_the_search_space() -> None:
    config = Config()
    halves = ("image_task", "shared_task", "tabular_task", "ranking")
    assert [getattr(config, f"{name}_weight") for name in halves] == [0.5] * 4
    for name, wanted in SEARCH_SPACE.items():
        assert wanted.low <= getattr(config, name.removeprefix("method.")) <= wanted.high
    with pytest.raises(ConfigError, match=r"method\.width must be a multiple"):
        Config.from_dict({"width": 20}, "method.")
