"""The router: the forest where there is a table, the image model where there is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import MIXED, SCHEMA, SMALL, make_batch, make_packed, make_run
from torch.nn.parallel import DistributedDataParallel

from dfpl.baselines import forest
from dfpl.baselines.router import Config, Model
from dfpl.data.loader import Loader, View
from dfpl.data.scenario import Scenario
from dfpl.evaluate import logits_under_scenario
from dfpl.predict import TrainedModel
from dfpl.storage import Storage
from dfpl.train import Runtime, fit
from dfpl.unimodal import ImageClassifier

PACKED = make_packed(120)
SCENARIO = Scenario(pattern="both", rate=0.5)
CPU = torch.device("cpu")
VALUES = {name: value for name, value in SMALL.items() if name in Config.model_fields}
VALUES |= {"name": "router", "num_trees": 20, "task_loss": "ce"}


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    model = Model(Config.from_dict(VALUES), PACKED.schema)
    train = View.of(PACKED, "train", SCENARIO)
    model.prepare(train, train.statistics(), seed=0)
    return model


def test_each_sample_is_sent_to_the_model_that_reads_it(model: Model) -> None:
    batch = make_batch(MIXED)
    logits, there = model.eval()(batch).logits, batch.available[:, 1]
    own = forest.Model(forest.Config(num_trees=20), PACKED.schema)
    train = View.of(PACKED, "train", SCENARIO)
    own.prepare(train, train.statistics(), seed=0)
    assert torch.equal(logits[there], own(batch).logits[there])
    assert torch.equal(logits[~there], model.image(batch)[~there])


def test_the_image_model_learns_from_every_image_as_it_would_alone(model: Model) -> None:
    batch = make_batch(MIXED)
    model.losses(model(batch), batch)["image_task"].backward()
    torch.manual_seed(0)
    alone = ImageClassifier(model.config, SCHEMA)
    there = batch.available[:, 0]
    logits = alone(batch)[there]
    torch.nn.functional.cross_entropy(logits, batch.label[there]).backward()
    found = dict(model.image.named_parameters())
    for name, parameter in alone.named_parameters():
        torch.testing.assert_close(found[name].grad, parameter.grad, rtol=1e-4, atol=1e-6)


def test_its_states_are_the_forests_and_the_image_models(model: Model) -> None:
    batch = make_batch([(1, 1)] * 5)
    found = model.eval().state_logits(batch)
    assert torch.equal(found["both"], found["tabular"])
    assert torch.equal(found["image"], model.image(batch))


def test_the_trees_do_not_change_in_training_and_are_saved_with_the_rest(tmp_path: Path) -> None:
    run: Any = make_run(PACKED).with_values({"method": VALUES})
    fitted = fit(run, PACKED, Runtime())
    grown = forest.Model(forest.Config(num_trees=20), PACKED.schema)
    grown.prepare(View.of(PACKED, "train", SCENARIO), fitted.statistics, run.seed)
    saved = fitted.method.state_dict()
    for name, value in grown.classifier.state_dict().items():
        assert torch.equal(saved[f"forest.{name}"], value), name
    TrainedModel.of(run, PACKED.schema, fitted).save(Storage(tmp_path))
    loaded = TrainedModel.load(Storage(tmp_path), CPU)
    loader = Loader(View.of(PACKED, "test", SCENARIO), fitted.statistics, 16, CPU)
    expected = logits_under_scenario(fitted.method, loader)
    np.testing.assert_array_equal(logits_under_scenario(loaded.method, loader), expected)


def test_the_forest_is_not_sent_to_all_workers_in_each_step(model: Model, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        sent = DistributedDataParallel(model).modules_buffers
    finally:
        torch.distributed.destroy_process_group()
    trees = {id(value) for value in model.forest.buffers()}
    assert sent and not trees & {id(value) for value in sent}
