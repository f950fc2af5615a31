"""STiL: what each stream sees, CLUB without pairs, its terms, and what is absent."""

from typing import Any

import numpy as np
import pytest
import torch
from checks import assert_all_learn
from samples import MIXED, SCHEMA, SMALL, make_batch
from torch import Tensor

from dfpl.baselines.stil import (
    HEADS,
    SEARCH_SPACE,
    Config,
    Features,
    Model,
    Output,
    Side,
    StreamLayer,
    club_bound,
    estimation_loss,
    what_is_seen,
)
from dfpl.data.batch import Batch
from dfpl.fields import ConfigError
from dfpl.method import Method, objective
from dfpl.noise import StepNoise

PATTERNS = torch.tensor([[1, 1], [1, 0], [0, 1]]).bool()
PRESENT = torch.tensor([1, 0, 1, 1, 0, 1]).bool()
STREAM = torch.tensor([0, 1, 1, 1, 2, 2])


def make_model(task: str = "multiclass", schema: Any = SCHEMA, **values: Any) -> Model:
    torch.manual_seed(0)
    small = {name: value for name, value in SMALL.items() if name in Config.model_fields}
    config = {**small, "tabular_depth": 1, "task_loss": "ce", **values, "name": "stil"}
    return Model(Config.from_dict(config), schema.with_values({"task": task}))


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def filler(shape: tuple[int, int], k: float) -> Tensor:
    """Element number i, from 1 and row by row, is sin(i k)."""
    return (torch.arange(1, 1 + shape[0] * shape[1], dtype=torch.float64) * k).sin().view(shape)


def everyone(rows: int) -> Tensor:
    return torch.ones(rows, dtype=torch.bool)


def features(rows: int, seed: int = 0) -> Features:
    """Of 3 tokens for an even seed, as of an image, and else of 2."""
    return Features(draw(rows, 3 - seed % 2, 16, seed=seed), draw(rows, 16, seed=10 + seed))


def several_labels(batch: Batch) -> Batch:
    return batch._replace(label=(torch.arange(3 * len(MIXED)).view(-1, 3) % 5 < 2).float())


def gradient(model: Model, value: Tensor) -> set[str]:
    """Names of the parameters that a value depends on."""
    model.zero_grad()
    value.backward(retain_graph=True)
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def all_pairs(guess: np.ndarray, shared: np.ndarray) -> float:
    """CLUB as it is written, pair by pair."""
    found = []
    for i, mu in enumerate(guess):
        others = [((mu - a) ** 2).sum() for a in shared]
        found += [-others[i] / 2 + np.mean(others) / 2]
    return float(np.mean(found))


def test_club_by_hand() -> None:
    # means 2 and (0, 1): (-1)(-2) + (1)(2) over two samples; the second column is (0)(0) + (0)(0)
    guess = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
    shared = torch.tensor([[-2.0, 1.0], [2.0, 1.0]])
    assert club_bound(guess, shared, everyone(2)) == 2
    assert estimation_loss(guess, shared, everyone(2)) == (9 + 36 + 1 + 36) / 2


def test_the_golden_values() -> None:
    guess, shared = filler((4, 3), 0.9), filler((4, 3), 0.4)
    bound = club_bound(guess, shared, everyone(4)).item()
    missed = estimation_loss(guess, shared, everyone(4)).item()
    assert bound == pytest.approx(-0.0106870, abs=1e-7)
    assert missed == pytest.approx(3.1613931, abs=1e-7)
    assert bound + missed == pytest.approx(3.1507061, abs=1e-7)


def test_club_without_pairs_equals_all_pairs_of_the_present() -> None:
    guess, shared = draw(6, 5), draw(6, 5, seed=1)
    bound = club_bound(guess, shared, PRESENT).item()
    assert bound == pytest.approx(all_pairs(guess[PRESENT].numpy(), shared[PRESENT].numpy()))


def test_its_gradient_is_that_of_all_pairs() -> None:
    guess, shared = draw(6, 5).requires_grad_(), draw(6, 5, seed=1).requires_grad_()
    mu, a = guess[PRESENT], shared[PRESENT]
    pairs = torch.cdist(mu, a).square()
    expected = torch.autograd.grad((pairs.mean() - pairs.diagonal().mean()) / 2, (guess, shared))
    found = torch.autograd.grad(club_bound(guess, shared, PRESENT), (guess, shared))
    torch.testing.assert_close(found, expected)


def test_both_losses_of_club_are_half_the_matched_and_half_of_all_pairs() -> None:
    guess, shared = draw(6, 5), draw(6, 5, seed=1)
    total = club_bound(guess, shared, PRESENT) + estimation_loss(guess, shared, PRESENT)
    pairs = torch.cdist(guess[PRESENT], shared[PRESENT]).square()
    torch.testing.assert_close(total, (pairs.diagonal().mean() + pairs.mean()) / 2)


def test_club_keeps_its_digits_far_from_zero() -> None:
    guess, shared = draw(200, 8), draw(200, 8, seed=1)
    found = club_bound((guess + 300).float(), (shared - 300).float(), everyone(200)).item()
    expected = club_bound(guess, shared, everyone(200)).item()
    assert found == pytest.approx(expected, abs=1e-4)  # the squares are of size 10^6


@pytest.mark.parametrize("count", [0, 1])
def test_club_of_one_sample_or_none_is_zero_without_gradient(count: int) -> None:
    guess, shared = draw(3, 5).requires_grad_(), draw(3, 5, seed=1).requires_grad_()
    bound = club_bound(guess, shared, torch.arange(3) < count)
    bound.backward()
    assert bound == 0
    assert guess.grad is not None and not guess.grad.any()
    assert shared.grad is not None and not shared.grad.any()


@pytest.mark.parametrize("side", ["image", "tabular"])
def test_club_moves_features_and_estimator_as_in_the_code_or_each_by_its_own_loss(
    side: str,
) -> None:
    batch, found = make_batch(MIXED), {}
    for club in ("code", "detached"):
        model = make_model(club=club)
        terms = model.losses(model(batch), batch)
        found[club] = {name: term.item() for name, term in terms.items()}
        bound, missed = terms[f"{side}_club"], terms[f"{side}_estimation"]
        estimator = {f"{side}.estimator.{k}.{x}" for k in (0, 2) for x in ("weight", "bias")}
        maps = {f"{side}.{part}.0.weight" for part in ("specific", "shared")}
        if club == "code":
            # a shift of all guesses by the last bias leaves their covariance as it is
            assert maps | estimator - {f"{side}.estimator.2.bias"} <= gradient(model, bound)
            assert maps | estimator <= gradient(model, missed)
        else:
            assert maps <= gradient(model, bound) and not estimator & gradient(model, bound)
            assert gradient(model, missed) == estimator
    assert found["code"] == found["detached"]


def layer_by_hand(layer: StreamLayer, tokens: Tensor, own: list[int], seen: list[int]) -> Tensor:
    """What the layer makes of the tokens `own` of one sample, which look at the tokens `seen`."""
    D = tokens.shape[1]
    query, key, value = layer.qkv(layer.attention_norm(tokens)).split(D, dim=1)
    mixed = []
    for part in torch.arange(D).chunk(HEADS):
        scores = query[own][:, part] @ key[seen][:, part].T / (D / HEADS) ** 0.5
        mixed += [scores.softmax(dim=1) @ value[seen][:, part]]
    x = tokens[own] + layer.project(torch.cat(mixed, dim=1))
    return x + layer.feed_forward(layer.feed_forward_norm(x))


@torch.no_grad()
@pytest.mark.parametrize(
    ("there", "joint_sees"),
    [((1, 1), [0, 1, 2, 3, 4, 5]), ((1, 0), [0, 1, 2, 3]), ((0, 1), [0, 4, 5])],
)
def test_each_stream_equals_the_equation_over_what_it_sees(
    there: tuple[int, int], joint_sees: list[int]
) -> None:
    torch.manual_seed(0)
    layer, tokens = StreamLayer(16, 0.1).double().eval(), draw(1, 6, 16)
    torch.nn.init.normal_(layer.qkv.bias)
    visible = what_is_seen(STREAM, torch.tensor([[1, *there]]).bool())
    found = layer(tokens, visible, STREAM, StepNoise())[0]
    for own, seen in (([0], joint_sees), ([1, 2, 3], [1, 2, 3]), ([4, 5], [4, 5])):
        torch.testing.assert_close(found[own], layer_by_hand(layer, tokens[0], own, seen))


@torch.no_grad()
def test_the_streams_of_the_modalities_do_not_meet_and_the_joint_one_reads_both() -> None:
    model = make_model().double().eval()
    image, tabular = features(2), features(2, seed=1)
    plain = model._fuse(image, tabular, torch.ones(2, 2, dtype=torch.bool))
    for column, other in enumerate(((features(2, 4), tabular), (image, features(2, 5)))):
        changed = model._fuse(*other, torch.ones(2, 2, dtype=torch.bool))
        assert (changed[:, 0] != plain[:, 0]).any()
        assert (changed[:, 1 + column] != plain[:, 1 + column]).any()
        assert torch.equal(changed[:, 2 - column], plain[:, 2 - column])


def test_all_three_streams_train_the_same_layer() -> None:
    model = make_model().double()
    fused = model._fuse(features(4), features(4, seed=1), torch.ones(4, 2, dtype=torch.bool))
    layer = {f"layer.{name}" for name, _ in model.layer.named_parameters()}
    for stream in range(3):
        weights = torch.linspace(0, 1, 16).double()
        assert layer <= gradient(model, (fused[:, stream] * weights).sum())


@torch.no_grad()
def test_the_joint_token_begins_with_the_shared_vectors_that_are_there() -> None:
    model = make_model().double().eval()
    image, tabular = features(3), features(3, seed=1)
    seen: list[Tensor] = []
    model.layer.register_forward_pre_hook(lambda _, x: seen.append(x[0][:, 0]))
    model._fuse(image, tabular, PATTERNS)
    nothing = torch.zeros(16, dtype=torch.float64)
    for row, (has_image, has_table) in enumerate(PATTERNS.tolist()):
        parts = (
            image.shared[row] if has_image else nothing,
            tabular.shared[row] if has_table else nothing,
        )
        torch.testing.assert_close(seen[0][row], model.joint(torch.cat(parts)))


@torch.no_grad()
def test_an_absent_modality_leaves_zeros_and_changes_nothing() -> None:
    model = make_model().double().eval()
    image, tabular = features(3), features(3, seed=1)
    fused = model._fuse(image, tabular, PATTERNS)
    assert fused.any(dim=2).tolist() == [
        [True, True, True],
        [True, True, False],
        [True, False, True],
    ]
    other = Features(image.specific.clone(), image.shared.clone())
    other.specific[2], other.shared[2] = 9, torch.nan
    table = Features(tabular.specific.clone(), tabular.shared.clone())
    table.specific[1], table.shared[1] = -9, torch.nan
    assert torch.equal(model._fuse(other, table, PATTERNS), fused)


def test_dropout_drops_entries_and_whole_streams_and_keeps_the_mean() -> None:
    layer, noise = StreamLayer(16, 0.2), StepNoise()
    ones = torch.ones(2000, 6, 16)
    found = layer._drop(ones, STREAM, noise, 0)
    torch.testing.assert_close(found[found > 0].unique(), torch.tensor([1 / 0.8**2]))
    assert found.mean().item() == pytest.approx(1, abs=0.02)
    gone = ~found.any(dim=2)  # (samples, tokens); 16 entries by chance: 1e-11
    assert gone.float().mean().item() == pytest.approx(0.2, abs=0.02)
    for own in ([1, 2, 3], [4, 5]):  # the tokens of a stream stay or go together
        assert (gone[:, own].all(dim=1) == gone[:, own].any(dim=1)).all()
    assert (gone[:, 1] & ~gone[:, 4]).any() and (gone[:, 0] & ~gone[:, 1]).any()
    kept = (found[:, 0][~gone[:, 0]] > 0).float().mean(dim=0)  # for each entry: not by stream
    torch.testing.assert_close(kept, torch.full((16,), 0.8), rtol=0, atol=0.05)


def test_each_step_drops_anew_and_evaluation_nothing() -> None:
    model, batch = make_model(dropout=0.5), make_batch(MIXED)
    first = model(batch).logits
    assert torch.equal(model(batch).logits, first)
    model.after_step()
    assert not torch.equal(model(batch).logits, first)
    still = model.eval()(batch).logits
    model.after_step()
    assert torch.equal(model(batch).logits, still)


@torch.no_grad()
def test_features_are_of_cells_and_their_mean_and_of_columns_and_cls() -> None:
    model, batch = make_model().eval(), make_batch([(1, 1)] * 2)
    image, tabular = model._encode(batch)
    cells = model.image_encoder(batch.image, batch.available[:, 0])
    columns = model.tabular_encoder(batch, batch.available[:, 1])
    torch.testing.assert_close(image.specific, model.image.specific(cells))
    torch.testing.assert_close(image.shared, model.image.shared(cells.mean(dim=1)))
    torch.testing.assert_close(tabular.specific, model.tabular.specific(columns[:, 1:]))
    torch.testing.assert_close(tabular.shared, model.tabular.shared(columns[:, 0]))


@torch.no_grad()
def test_the_head_on_all_streams_predicts_every_sample() -> None:
    model, batch = make_model().eval(), make_batch(MIXED)
    sides = model._encode(batch)
    fused = model._fuse(*sides, batch.available)
    output = model(batch)
    torch.testing.assert_close(output.logits, model.classifier(fused.flatten(1)))
    for n, (part, found) in enumerate(zip((model.image, model.tabular), output[1:], strict=True)):
        read = torch.cat([fused[:, 1 + n], sides[n].shared], dim=1)
        torch.testing.assert_close(found.logits, part.classifier(read))
        torch.testing.assert_close(found.contrasted, part.contrasted(sides[n].shared))
        mean = sides[n].specific.mean(dim=1)  # before the layer
        torch.testing.assert_close(found.guess, part.estimator(mean))


@torch.no_grad()
def test_the_prediction_from_one_modality_does_not_see_the_other() -> None:
    model, batch = make_model().eval(), make_batch([(1, 1)] * 4)
    output = model(batch)
    other = model(batch._replace(image=batch.image + 1))
    assert torch.equal(other.tabular.logits, output.tabular.logits)
    assert not torch.equal(other.image.logits, output.image.logits)
    other = model(batch._replace(numeric=batch.numeric + 1))
    assert torch.equal(other.image.logits, output.image.logits)
    assert not torch.equal(other.tabular.logits, output.tabular.logits)


@pytest.mark.parametrize("absent", [0, 1])
def test_the_encoder_of_a_modality_absent_throughout_gets_no_gradient(absent: int) -> None:
    model = make_model()
    batch = make_batch([(0, 1) if absent == 0 else (1, 0)] * 4)
    learning = gradient(model, objective(model, model.losses(model(batch), batch)))
    gone, kept = [("image", "tabular"), ("tabular", "image")][absent]
    assert not [name for name in learning if name.startswith((f"{gone}.", f"{gone}_"))]
    assert [name for name in learning if name.startswith(f"{kept}_encoder")]


def made_up_output(rows: int) -> Output:
    sides = [
        Side(
            draw(rows, 3, seed=10 * n),
            draw(rows, 4, seed=10 * n + 1),
            draw(rows, 5, seed=10 * n + 2),
            draw(rows, 4, seed=10 * n + 3),
            draw(rows, 4, seed=10 * n + 3),
        )
        for n in (1, 2)
    ]
    return Output(draw(rows, 3), *sides)


def expected_terms(output: Output, batch: Batch, kind: str) -> dict[str, float]:
    """Every term, sample by sample, from its equation."""

    def prediction(logits: np.ndarray, b: int) -> float:
        label = batch.label.numpy()[b]
        if kind == "ce":
            return np.log(np.exp(logits).sum()) - logits[label]
        p = 1 / (1 + np.exp(-logits))
        target = label if batch.label.ndim == 2 else np.eye(3)[label]
        return float(-(target * np.log(p) + (1 - target) * np.log(1 - p)).mean())

    rows, there = range(len(batch.label)), batch.available.numpy()
    pairs = [b for b in rows if there[b].all()]
    u, v = (
        [z / np.linalg.norm(z) for z in side.contrasted.numpy()[pairs]]
        for side in (output.image, output.tabular)
    )
    contrasts = []
    for one, other in ((u, v), (v, u)):
        for i, z in enumerate(one):
            scores = np.exp([z @ w / 0.1 for w in other])
            contrasts += [-np.log(scores[i] / scores.sum())]
    terms: dict[str, Any] = {
        "task": np.mean([prediction(output.logits[b].numpy(), b) for b in rows]),
        "contrastive": np.mean(contrasts),
    }
    for column, (name, side) in enumerate(
        {"image": output.image, "tabular": output.tabular}.items()
    ):
        own = [b for b in rows if there[b, column]]
        guess, shared = side.guess.numpy()[own], side.shared.numpy()[own]
        terms[f"{name}_task"] = np.mean([prediction(side.logits[b].numpy(), b) for b in own])
        terms[f"{name}_club"] = all_pairs(guess, shared)
        terms[f"{name}_estimation"] = ((guess - shared) ** 2).sum(axis=1).mean()
    return {name: float(value) for name, value in terms.items()}


@pytest.mark.parametrize(
    ("task", "kind"), [("multiclass", "ce"), ("multiclass", "bce"), ("multilabel", "bce")]
)
def test_every_term_is_what_its_name_says(task: str, kind: str) -> None:
    """In the public log the contrastive loss bears the name of another."""
    model, batch = make_model(task, task_loss=kind), make_batch(MIXED)
    batch = several_labels(batch) if task == "multilabel" else batch
    output = made_up_output(len(MIXED))
    terms, expected = model.losses(output, batch), expected_terms(output, batch, kind)
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        assert term.item() == pytest.approx(expected[name], rel=1e-9), name


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, (1, 1, 0.5)),
        ({"contrastive_weight": 15.0, "disentanglement_weight": 2.5}, (1, 3 / 0.2, 0.5 / 0.2)),
    ],
)
def test_the_objective_and_that_of_the_paper(
    chosen: dict[str, Any], expected: tuple[float, ...]
) -> None:
    model, batch, output = make_model(**chosen), make_batch(MIXED), made_up_output(len(MIXED))
    terms = expected_terms(output, batch, "ce")
    tasks = terms["task"] + terms["image_task"] + terms["tabular_task"]
    club = sum(value for name, value in terms.items() if name.endswith(("club", "estimation")))
    total = np.dot(expected, (tasks, terms["contrastive"], club))
    assert objective(model, model.losses(output, batch)).item() == pytest.approx(total, rel=1e-9)


@torch.no_grad()
def test_incomplete_samples_do_not_change_what_pairs_say() -> None:
    model = make_model().eval()
    batch = make_batch([*[(1, 1)] * 4, (1, 0), (0, 1), (1, 0)])
    pairs = Batch(*(values[:4] for values in batch))
    found = [model.losses(model(part), part)["contrastive"].item() for part in (pairs, batch)]
    assert found[0] == pytest.approx(found[1], rel=1e-6) and found[0] > 0


@pytest.mark.parametrize("available", [[(1, 0)] * 3, [(1, 1), (1, 0)]])
def test_without_two_pairs_nothing_is_contrasted(available: list[tuple[int, int]]) -> None:
    model, batch = make_model(), make_batch(available)
    term = model.losses(model(batch), batch)["contrastive"]
    assert term == 0 and gradient(model, term) == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("contrastive_weight", 0.0),
        ("disentanglement_weight", 0.0),
        ("temperature", 0.5),
        ("dropout", 0.3),
        ("club", "detached"),
        ("task_loss", "bce"),
        ("encode_missing", "skip"),
    ],
)
def test_every_setting_has_an_effect(name: str, value: Any) -> None:
    """In the public configs several are read and never used."""
    slopes = []
    for values in ({}, {name: value}):
        model, batch = make_model(**values), make_batch(MIXED)
        objective(model, model.losses(model(batch), batch)).backward()
        slopes.append([p.grad for p in model.parameters()])
    assert any(not torch.equal(*pair) for pair in zip(*slopes, strict=True))


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


@pytest.mark.parametrize(
    ("numeric", "category"), [(["length", "weight"], {}), ([], SCHEMA.category), (["length"], {})]
)
def test_tables_without_numbers_or_categories(numeric: list[str], category: Any) -> None:
    model = make_model(schema=SCHEMA.with_values({"numeric": numeric, "category": category}))
    batch = make_batch(MIXED)
    batch = batch._replace(
        numeric=batch.numeric[:, : len(numeric)], category=batch.category[:, : len(category)]
    )
    assert_all_learn(model, batch)


@pytest.mark.parametrize("width", [256, 512])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_sizes_of_the_paper(width: int, task: str) -> None:
    model = make_model(task, width=width, tabular_heads=8)
    batch = make_batch([(1, 1), (1, 0), (0, 1)])
    if task == "multilabel":
        batch = batch._replace(label=torch.eye(3)[batch.label])
    terms = model.losses(model(batch), batch)
    assert all(term.isfinite() for term in terms.values())
    D, C, P = width, 3, 128
    sizes = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    square = D * D + D  # a map of D to D
    assert sizes["image"] == sizes["tabular"] == 6 * square + (2 * D + 1) * C + (D + 1) * P
    assert sizes["layer"] == 6 * square + 4 * D  # qkv, projection, two maps, two norms
    assert sizes["joint"] + sizes["classifier"] == square + D * D + (3 * D + 1) * C
    assert model.task_loss == ("bce" if task == "multilabel" else "ce")


def test_the_defaults_lie_in_the_search_space() -> None:
    config = Config()
    for name, wanted in SEARCH_SPACE.items():
        assert wanted.low <= getattr(config, name.removeprefix("method.")) <= wanted.high


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.width must be a multiple"):
        Config.from_dict({"width": 20}, "method.")
    with pytest.raises(ConfigError, match=r"method\.width should be a multiple of 4, got 18"):
        Config.from_dict({"width": 18, "tabular_heads": 2}, "method.")
