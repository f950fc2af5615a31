"""The loop: golden numbers, the same run to the last bit, and what stops it."""

from dataclasses import replace
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import workers
from samples import make_packed, make_run
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dfpl.checkpoint import LAST
from dfpl.config import OptimConfig
from dfpl.data.loader import Loader, View
from dfpl.evaluate import logits_under_scenario
from dfpl.fields import ConfigError
from dfpl.model import Model
from dfpl.storage import Storage
from dfpl.train import Fitted, NonFiniteError, Runtime, fit, learning_rates

PACKED = make_packed()
RUN = make_run(PACKED, optim__epochs=3)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    """The run that the others must equal."""
    return fit(RUN, PACKED, Runtime())


def numbers(found: Fitted) -> list[dict[str, float]]:
    """The rows of a run but for the time it took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found.rows]


def assert_same_run(found: Fitted, expected: Fitted) -> None:
    """To the last bit."""
    assert numbers(found) == numbers(expected)
    assert (found.best_epoch, found.best_value) == (expected.best_epoch, expected.best_value)
    assert found.statistics == expected.statistics
    weights = expected.method.state_dict()
    for name, value in found.method.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_three_golden_numbers(fitted: Fitted) -> None:
    objectives = [row["train/objective"] for row in fitted.rows]
    assert objectives == pytest.approx([5.510218, 4.742552, 4.35861], rel=1e-5)


def test_the_same_run_gives_the_same_numbers_to_the_last_bit(fitted: Fitted) -> None:
    torch.manual_seed(99)  # whatever happened before
    torch.rand(5)
    assert_same_run(fit(RUN, PACKED, Runtime()), fitted)


def test_another_seed_is_another_run(fitted: Fitted) -> None:
    other = fit(RUN.with_values({"seed": 1, "optim.epochs": 1}), PACKED, Runtime())
    assert other.rows[0]["train/objective"] != fitted.rows[0]["train/objective"]


def test_what_the_scenario_hides_changes_nothing(fitted: Fitted) -> None:
    spoiled = replace(
        PACKED,
        image=PACKED.image.copy(),
        numeric=PACKED.numeric.copy(),
        category=PACKED.category.copy(),
    )
    for split in ("train", "val"):
        view = View.of(PACKED, split, RUN.scenario)
        spoiled.image[view.rows[~view.available[:, 0]]] = 255
        spoiled.numeric[view.rows[~view.available[:, 1]]] = np.nan
        spoiled.category[view.rows[~view.available[:, 1]]] = 9999
    spoiled.image[PACKED.rows("test")] = 255
    spoiled.numeric[PACKED.rows("test")] = np.inf
    assert_same_run(fit(RUN, spoiled, Runtime()), fitted)


def test_a_row_tells_every_term_the_metrics_and_the_best_so_far(fitted: Fitted) -> None:
    for epoch, row in enumerate(fitted.rows, start=1):
        assert row["epoch"] == epoch
        assert row["value"] == max(r["val/accuracy"] for r in fitted.rows[:epoch])
        terms = {name for name in row if name.startswith("train/")}
        assert {"train/task", "train/diversity", "train/semantic_alignment"} < terms
    assert fitted.seconds == fitted.rows[-1]["seconds"] > 0


def test_the_weights_are_those_of_the_first_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [0.2, 0.9, 0.9, 0.1]
    longer = RUN.with_values({"optim.epochs": 4})

    def scripted(epochs: int) -> Fitted:
        left = iter(scores)
        monkeypatch.setattr("dfpl.train.measure", lambda *_: {"accuracy": next(left)})
        return fit(longer, PACKED, Runtime(report=lambda row: row["epoch"] < epochs))

    whole, stopped, before = scripted(4), scripted(2), scripted(1)
    assert [row["value"] for row in whole.rows] == [0.2, 0.9, 0.9, 0.9]
    assert (whole.best_epoch, whole.best_value) == (2, 0.9)
    weights, earlier = stopped.method.state_dict(), before.method.state_dict()
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, weights[name])
    assert any(not torch.equal(weights[name], earlier[name]) for name in weights)


def test_the_best_value_is_that_of_the_weights_returned(fitted: Fitted) -> None:
    val = View.of(PACKED, "val", RUN.scenario)
    loader = Loader(val, fitted.statistics, 16, torch.device("cpu"))
    right = logits_under_scenario(fitted.method, loader).argmax(axis=1) == PACKED.label[val.rows]
    assert right.mean() == pytest.approx(fitted.best_value)


class Killed(Exception):
    """Stands for a machine that goes away."""


def killed_after(epoch: int, folder: Storage, every_s: float = 0.0) -> None:
    def report(row: dict[str, float]) -> bool:
        if row["epoch"] == epoch:
            raise Killed
        return True

    with pytest.raises(Killed):
        fit(RUN, PACKED, Runtime(report=report, checkpoints=folder, checkpoint_every_s=every_s))


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    epoch: int, tmp_path: Path, fitted: Fitted
) -> None:
    folder, told = Storage(tmp_path), []
    killed_after(epoch, folder)
    torch.manual_seed(99)
    report: Any = lambda row: told.append(row["epoch"]) or True  # noqa: E731
    found = fit(RUN, PACKED, Runtime(report=report, checkpoints=folder, checkpoint_every_s=0.0))
    assert_same_run(found, fitted)
    assert told == [1, 2, 3]  # what was told to a reporter that died is told again


def test_a_run_killed_twice_goes_on(tmp_path: Path, fitted: Fitted) -> None:
    killed_after(1, Storage(tmp_path))
    killed_after(2, Storage(tmp_path))
    assert_same_run(fit(RUN, PACKED, Runtime(checkpoints=Storage(tmp_path))), fitted)


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_torn_checkpoint_starts_the_run_anew(
    share: float, tmp_path: Path, fitted: Fitted
) -> None:
    killed_after(2, Storage(tmp_path))
    content = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(content[: int(share * len(content))])
    assert_same_run(fit(RUN, PACKED, Runtime(checkpoints=Storage(tmp_path))), fitted)


def test_no_checkpoint_is_written_before_its_time(tmp_path: Path, fitted: Fitted) -> None:
    killed_after(2, Storage(tmp_path), every_s=3600.0)
    assert not (tmp_path / LAST).exists()
    assert_same_run(fit(RUN, PACKED, Runtime(checkpoints=Storage(tmp_path))), fitted)


def test_learning_rates_by_hand() -> None:
    # ten epochs of two steps, two of them to warm up: a quarter, a half, ... and the whole rate,
    # then half a cosine over the other eight
    config = OptimConfig(learning_rate=0.4, epochs=10, warmup=0.2)
    rates = [list(learning_rates(config, 2, epoch)) for epoch in range(10)]
    assert rates[0] == pytest.approx([0.1, 0.2]) and rates[1] == pytest.approx([0.3, 0.4])
    assert rates[2] == pytest.approx([0.4, 0.2 * (1 + cos(pi / 16))])
    assert rates[6][0] == pytest.approx(0.2)  # halfway down
    assert rates[9][1] == pytest.approx(0.2 * (1 + cos(pi * 15 / 16)))


def test_learning_rates_without_a_warm_up() -> None:
    config = OptimConfig(learning_rate=1.0, epochs=2, warmup=0.0)
    rates = [rate for epoch in range(2) for rate in learning_rates(config, 1, epoch)]
    assert rates == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.05, 1 / 3, 0.999])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (3, 7), (100, 3)])
def test_learning_rates_rise_then_fall_and_stay_positive(
    warmup: float, epochs: int, steps: int
) -> None:
    config = OptimConfig(learning_rate=1.0, epochs=epochs, warmup=warmup)
    rates = [rate for epoch in range(epochs) for rate in learning_rates(config, steps, epoch)]
    top = rates.index(max(rates))
    assert min(rates) > 0 and max(rates) <= 1
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_each_step_uses_its_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: Any, *args: Any) -> Any:
        used.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    run = make_run(PACKED, optim__epochs=2, optim__warmup=0.5, optim__learning_rate=0.004)
    fit(run, PACKED, Runtime())  # 30 samples in batches of 15: two steps in each epoch
    assert used == pytest.approx([0.002, 0.004, 0.004, 0.002])


def test_a_report_that_says_no_prunes_the_run() -> None:
    found = fit(RUN, PACKED, Runtime(report=lambda row: row["epoch"] < 2))
    assert found.pruned and len(found.rows) == 2


def test_a_no_at_the_last_epoch_prunes_nothing(fitted: Fitted) -> None:
    found = fit(RUN, PACKED, Runtime(report=lambda row: row["epoch"] < 3))
    assert not found.pruned and not fitted.pruned
    assert_same_run(found, fitted)


def test_an_exploding_run_fails_and_says_where() -> None:
    wild = RUN.with_values({"optim.learning_rate": 1e30})
    with pytest.raises(NonFiniteError, match=r"not finite in epoch 1, step 2: task = nan, token_d"):
        fit(wild, PACKED, Runtime())


def test_the_term_that_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, calls = Model.losses, []

    def broken(self: Model, output: Any, batch: Any) -> dict[str, Tensor]:
        calls.append(1)
        terms = losses(self, output, batch)
        return {**terms, "diversity": terms["diversity"] / (len(calls) != 3)}

    monkeypatch.setattr(Model, "losses", broken)
    with pytest.raises(NonFiniteError) as failed:
        fit(RUN, PACKED, Runtime())
    message = str(failed.value)
    assert "not finite in epoch 2, step 1: task = 0." in message
    assert "diversity = inf" in message and "objective = inf" in message
    assert message.count("inf") + message.count("nan") == 2


def test_other_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="the run is for data made_up with content 0123, but"):
        fit(RUN.with_values({"data_hash": "0123"}), PACKED, Runtime())


def test_it_learns_the_made_up_rule() -> None:
    run = make_run(PACKED, optim__epochs=12, optim__learning_rate=0.003)
    assert fit(run, PACKED, Runtime()).best_value >= 0.6  # chance is 1/3; 0.87 was seen


SHORT = make_run(PACKED, optim__epochs=2, optim__batch_size=13, method__encode_missing="skip")


def distributed(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model)


def worker(me: int, folder: Path) -> None:
    checkpoints = Storage(folder) / "checkpoint"
    runtime = Runtime(wrap=distributed, checkpoints=checkpoints, checkpoint_every_s=0.0)
    Storage(folder).write_json(f"{me}.json", fit(SHORT, PACKED, runtime).rows)


def test_two_workers_train_to_the_numbers_of_one(tmp_path: Path) -> None:
    workers.start(worker, 2, tmp_path)
    alone = numbers(fit(SHORT, PACKED, Runtime()))
    for me in range(2):
        together = Storage(tmp_path).read_json(f"{me}.json")
        for found, expected in zip(together, alone, strict=True):
            found.pop("seconds")
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert (tmp_path / "checkpoint" / LAST).exists()
