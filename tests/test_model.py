"""DFPL as a whole against an independent NumPy oracle, and its ablation switches."""

from typing import Any

import numpy as np
import oracle
import pytest
import torch
from checks import assert_all_learn, assert_one_pass_equals_three
from jaxtyping import Float
from samples import MIXED, SCHEMA, SMALL, make_batch

from dfpl.data.batch import Batch
from dfpl.encoders import Tokens
from dfpl.fields import ConfigError
from dfpl.method import objective
from dfpl.model import SEARCH_SPACE, Config, Model, Output, _side

ABLATIONS = {
    "paper": {},
    "table II baseline": {
        "prototypes": False,
        "distribution_alignment": False,
        "semantic_alignment": False,
        "scale": "global",
        "fusion": "concat",
    },
    "table II + SSPM": {
        "distribution_alignment": False,
        "semantic_alignment": False,
        "fusion": "concat",
    },
    "table II + PFA": {"fusion": "concat"},
    "table III without diversity": {"diversity": False},
    "table IV distribution only": {"semantic_alignment": False},
    "table IV semantics only": {"distribution_alignment": False},
    "table IV global class prototypes": {"class_prototypes": "global"},
    "table IV prototype-level class prototypes": {"class_prototypes": "prototype"},
    "table V addition": {"fusion": "add"},
    "table V global scale": {"scale": "global"},
    "table V prototype scale": {"scale": "prototype"},
    "layer norm": {"prototype_norm": "layernorm"},
    "l2": {"prototype_norm": "l2"},
    "softmax divergence": {"jsd": "softmax"},
    "cross-entropy": {"task_loss": "ce"},
    "skip": {"encode_missing": "skip"},
    "one prototype": {"num_prototypes": 1},
}


def make_model(**values: Any) -> Model:
    torch.manual_seed(0)
    model = Model(Config.from_dict({**SMALL, **values}), SCHEMA)
    if model.gate is not None:
        torch.nn.init.normal_(model.gate)
    return model


def weights_of(model: Model) -> dict[str, np.ndarray]:
    """The model's parameters under the oracle's names."""
    found: dict[str, torch.Tensor] = {}
    for side in ("image", "tabular"):
        for branch in ("shared", "specific"):
            part = getattr(getattr(model, f"{side}_prototypes"), branch)
            name = f"{side}_{branch}"
            found |= {f"{name}.queries": part.queries, **attention(name, part.attention)}
            found |= {f"{name}.W1": part.feed_forward[0].weight.T}
            found |= {f"{name}.b1": part.feed_forward[0].bias}
            found |= {f"{name}.W2": part.feed_forward[2].weight.T}
            found |= {f"{name}.b2": part.feed_forward[2].bias}
    last: Any = model.aggregation
    if model.config.fusion == "cma":
        found |= {"aggregation.queries": last.queries, **attention("aggregation", last.attention)}
        found |= {"classifier.weight": last.weight, "classifier.bias": last.bias}
    else:
        found["classifier.weight"] = last.classify.weight.T
        found["classifier.bias"] = last.classify.bias
    if model.gate is not None:
        found["gate"] = model.gate
    return {name: value.detach().double().numpy() for name, value in found.items()}


def attention(name: str, part: Any) -> dict[str, torch.Tensor]:
    return {
        f"{name}.W_q": part.query.weight.T,
        f"{name}.W_k": part.key.weight.T,
        f"{name}.W_v": part.value.weight.T,
    }


def output_from_tokens(
    model: Model, tokens: dict[str, Float[torch.Tensor, "B L D"]], batch: Batch
) -> Output:
    """Run everything behind the encoders."""
    from dfpl.aggregation import gather_evidence

    image, tabular = (
        _side(
            Tokens(tokens[f"{side}_shared"], tokens[f"{side}_specific"]),
            getattr(model, f"{side}_prototypes"),
            batch.available[:, column],
        )
        for column, side in enumerate(("image", "tabular"))
    )
    evidence, visible = gather_evidence(image, tabular, batch.available, model.config.scale)
    logits, weights = model.aggregation(evidence, visible)
    return Output(logits, weights, evidence, image, tabular, model.gate)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"prototype_norm": "layernorm", "jsd": "softmax"},
        {"prototype_norm": "l2", "task_loss": "ce", "class_prototypes": "global"},
        {"class_prototypes": "prototype", "fusion": "concat"},
        {"fusion": "add", "scale": "prototype"},
        {"scale": "global", "delta": 0.0, "omega": 0.7, "epsilon": 1.0},
        {"fusion": "concat", "scale": "global", "num_prototypes": 1},
    ],
)
def test_every_term_equals_the_oracle(values: dict[str, Any]) -> None:
    model = make_model(**values).double()
    batch = make_batch(MIXED)
    generator = torch.Generator().manual_seed(1)
    tokens = {
        name: torch.randn(
            len(MIXED), 4 if "image" in name else 5, 16, generator=generator, dtype=torch.float64
        )
        for name in oracle.BRANCHES
    }
    output = output_from_tokens(model, tokens, batch)
    terms = model.losses(output, batch)
    config = model.config.to_dict()
    hyper = oracle.Hyperparameters(
        **{name: config[name] for name in oracle.Hyperparameters.__dataclass_fields__}
    )
    expected = oracle.evaluate(
        {name: value.numpy() for name, value in tokens.items()},
        batch.available.numpy(),
        batch.label.numpy(),
        weights_of(model),
        hyper,
    )
    np.testing.assert_allclose(output.logits.detach().numpy(), expected["logits"], rtol=1e-9)
    for name, term in terms.items():
        if model.weight(name) > 0:
            assert term.item() == pytest.approx(expected[name], rel=1e-6, abs=1e-9), name
    assert objective(model, terms).item() == pytest.approx(expected["objective"], rel=1e-6)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_trains_all_its_parameters(name: str) -> None:
    model = make_model(**ABLATIONS[name])
    batch = make_batch(MIXED)
    assert_all_learn(model, batch)


def test_the_attention_is_a_distribution_over_what_is_there() -> None:
    batch = make_batch(MIXED)
    attention = make_model()(batch).attention
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(len(MIXED), 3))
    assert (attention[~batch.available[:, 0]][:, :, :2] == 0).all()
    assert (attention[~batch.available[:, 1]][:, :, 4:] == 0).all()
    assert (attention[batch.available.all(dim=1)] > 0).all()


def test_one_pass_over_the_states_equals_three_forward_passes() -> None:
    assert_one_pass_equals_three(make_model())


def test_skipping_what_is_absent_changes_no_prediction() -> None:
    zeros, skip = make_model().eval(), make_model(encode_missing="skip").eval()
    skip.load_state_dict(zeros.state_dict())
    batch = make_batch(MIXED)
    torch.testing.assert_close(zeros(batch).logits, skip(batch).logits, rtol=1e-5, atol=1e-6)


def test_no_prototypes_but_their_alignment_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.prototypes = false needs"):
        Config.from_dict({"prototypes": False}, "method.")


def test_the_defaults_are_the_papers_and_lie_in_the_search_space() -> None:
    config = Config()
    paper = {"alpha": 1.0, "beta": 0.1, "gamma": 0.1, "delta": 0.2, "num_prototypes": 5}
    assert {name: getattr(config, name) for name in paper} == paper
    for name, wanted in SEARCH_SPACE.items():
        assert wanted.low <= getattr(config, name.removeprefix("method.")) <= wanted.high


def test_multi_label_data_takes_binary_cross_entropy_whatever_the_config_says() -> None:
    schema = SCHEMA.with_values({"task": "multilabel"})
    batch = make_batch(MIXED)
    label = torch.eye(3)[batch.label]
    terms = {}
    for kind in ("bce", "ce"):
        torch.manual_seed(0)
        model = Model(Config.from_dict({**SMALL, "task_loss": kind}), schema)
        several = batch._replace(label=label)
        terms[kind] = model.losses(model(several), several)["task"]
    assert torch.equal(terms["bce"], terms["ce"])
