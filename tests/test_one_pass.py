"""One pass in three states says what the model says when a scenario really hides its inputs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from samples import ONE_MODALITY, make_method, make_packed, stages

from dfpl.data.loader import Loader, View
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import NINE, Scenario
from dfpl.evaluate import logits_under_scenario, predict_split
from dfpl.method import Method
from dfpl.predictions import Predictions

CPU = torch.device("cpu")
SWITCHES: dict[str, dict[str, Any]] = {
    "skip": {"encode_missing": "skip"},
    "concatenation": {"fusion": "concat"},
    "addition of tokens": {
        "fusion": "add",
        "scale": "global",
        "prototypes": False,
        "distribution_alignment": False,
        "semantic_alignment": False,
    },
}
"""Of DFPL, whose one pass is a function of its own."""
CASES = [(*pair, {}) for pair in stages()] + [("dfpl", 0, own) for own in SWITCHES.values()]
IDS = [f"{name}-{stage}" for name, stage in stages()] + [*SWITCHES]


@pytest.fixture(params=CASES, ids=IDS)
def method(request: pytest.FixtureRequest) -> Method:
    """Each method in each stage of its training, and DFPL's switches."""
    name, stage, changes = request.param
    return make_method(name, stage, **changes)


def with_gaps() -> PackedDataset:
    """The same data, in which one test row in five lacks its image and one in five its table."""
    packed = make_packed(120)
    sample, rows = packed.sample.copy(), packed.rows("test")
    sample.loc[rows[::5], "has_image"] = False
    sample.loc[rows[1::5], "has_table"] = False
    return replace(packed, sample=sample)


DATA = {"complete": make_packed(120), "gaps": with_gaps()}


def loader(packed: PackedDataset, scenario: Scenario | None, batch_size: int) -> Loader:
    statistics = View.of(packed, "train").statistics()
    return Loader(View.of(packed, "test", scenario), statistics, batch_size, CPU)


@torch.no_grad()
def naive(method: Method, whole: Loader, found: Predictions, scenario: Scenario) -> np.ndarray:
    """Hide the inputs, whatever they held, and run the model."""
    method.eval()
    available = torch.from_numpy(found.available(scenario))
    logits = torch.full((len(found), len(found.class_names)), torch.nan)
    for positions, batch in whole.in_order():
        mask = available[positions]
        spoiled = batch._replace(
            image=batch.image.masked_fill(~mask[:, :1, None, None], torch.nan),
            numeric=batch.numeric.masked_fill(~mask[:, 1:], torch.nan),
            category=batch.category.masked_fill(~mask[:, 1:], 3),
            available=mask,
        )
        logits[positions] = method(spoiled).logits
    return logits.numpy()


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("batch_size", [7, 30])
def test_a_look_up_equals_hiding_the_inputs(method: Method, data: str, batch_size: int) -> None:
    whole = loader(DATA[data], None, batch_size)
    found = predict_split(method, whole, "test")
    for scenario in NINE:
        expected = naive(method, whole, found, scenario)
        np.testing.assert_allclose(found.pick_scenario(scenario), expected, rtol=0, atol=1e-6)
    complete = found.exists("both")
    logits = {state: values[complete] for state, values in found.logits.items()}
    changes = [np.abs(logits["both"] - logits[state]).max() for state in ("image", "tabular")]
    config: Any = method.config
    assert max(changes) > 1e-3  # not equal because nothing is read
    assert min(changes) > 1e-3 or config.name in ONE_MODALITY


@pytest.mark.parametrize("data", DATA)
def test_a_look_up_equals_reading_the_data_under_the_scenario(method: Method, data: str) -> None:
    found = predict_split(method, loader(DATA[data], None, 8), "test")
    for scenario in NINE:
        read = loader(DATA[data], scenario, 8)
        np.testing.assert_array_equal(found.available(scenario), read.view.available)
        expected = logits_under_scenario(method, read)
        np.testing.assert_allclose(found.pick_scenario(scenario), expected, rtol=0, atol=1e-6)
