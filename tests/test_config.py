"""One config says what a run is: its file, its id, and what it refuses."""

import json
import subprocess
import sys
from typing import Any

import pytest
from samples import SMALL

from dfpl.config import RunConfig
from dfpl.fields import ConfigError

PLAIN = {
    "dataset": "made_up",
    "data_hash": "0123",
    "method": SMALL,
    "scenario": {"pattern": "both", "rate": 0.5},
}
RUN = RunConfig.from_dict(PLAIN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optim": {"epoch": 3}}, "no field 'optim.epoch'; did you mean 'optim.epochs'?"),
        ({"sed": 1}, "no field 'sed'; did you mean 'seed'?"),
        ({"method": {**SMALL, "alfa": 1.0}}, "no field 'method.alfa'; did you mean 'method.alpha'"),
        ({"method": {**SMALL, "gamma": "x"}}, "method.gamma should be a valid number, got 'x'"),
        ({"method": {**SMALL, "num_prototypes": 65}}, "method.num_prototypes should be less than"),
        ({"method": {**SMALL, "jsd": "kl"}}, "method.jsd should be 'sigmoid' or 'softmax', got"),
        ({"method": {**SMALL, "width": 15}}, "method.width must be a multiple of method.tabular_h"),
        ({"method": {"width": 16}}, "method.name is missing"),
        ({"method": {"name": "dfpk"}}, "no method 'dfpk'; did you mean 'dfpl'?"),
        ({"method": 3}, "method should be a valid dictionary"),
        ({"scenario": {"pattern": "both", "rate": 30}}, "scenario.rate should be less than or equ"),
        ({"scenario": {"pattern": "img", "rate": 0.3}}, "scenario.pattern should be 'tabular', 'i"),
        ({"optim": {"learning_rate": 0.0}}, "optim.learning_rate should be greater than 0, got 0"),
        ({"optim": {"warmup": 1.0}}, "optim.warmup should be less than 1, got 1.0"),
        ({"augment": {"flip": 1.5}}, "augment.flip should be less than or equal to 1, got 1.5"),
        ({"metric": "acc"}, "metric should be 'accuracy'"),
        ({"seed": -1}, "seed should be greater than or equal to 0, got -1"),
    ],
)
def test_a_wrong_file_is_refused_by_dotted_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_dict({**PLAIN, **change})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("method.alfa", "method.alpha"),
        ("metod.alpha", "method.alpha"),
        ("learning_rate", "optim.learning_rate"),
        ("optim.batchsize", "optim.batch_size"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"no field '{name}'; did you mean '{near}'"):
        RUN.with_values({name: 1.0})


def test_a_run_comes_back_from_json_as_it_was() -> None:
    run = RUN.with_values({"method.alpha": 0.1 + 0.2, "optim.epochs": 7, "scenario.seed": 3})
    back = RunConfig.from_dict(json.loads(json.dumps(run.to_dict())))
    assert back == run
    assert type(back.method) is type(run.method)
    assert back.run_id == run.run_id


def test_the_id_is_the_same_on_every_machine() -> None:
    assert RUN.run_id == "made_up-dfpl-both-50-s0-22301c8e87"


@pytest.mark.parametrize(
    "change",
    [
        {"data_hash": "4567"},
        {"dataset": "other"},
        {"seed": 1},
        {"metric": "prauc"},
        {"method.alpha": 1.0000001},
        {"method.encode_missing": "skip"},
        {"scenario.seed": 1},
        {"scenario.rate": 0.500000001},
        {"optim.weight_decay": 0.1},
        {"augment.colour": 0.0},
    ],
)
def test_any_change_gives_another_id(change: dict[str, Any]) -> None:
    assert RUN.with_values(change).run_id != RUN.run_id


def test_a_whole_number_for_a_real_one_is_the_same_run() -> None:
    values = {"method.alpha": 1, "augment.rotation": 15, "optim.weight_decay": 0}
    assert RUN.with_values(values).run_id == RUN.run_id


def test_configs_records_and_metrics_load_without_torch() -> None:
    code = (
        "import sys, dfpl.config, dfpl.data.scenario, dfpl.study.records, dfpl.metrics, "
        "dfpl.intervals, dfpl.predictions; "
        "print(sorted({'torch', 'ray', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
