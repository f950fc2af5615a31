"""Stages of training: what learns when, where they begin, and that they survive a kill."""

from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from jaxtyping import Float
from samples import make_packed, make_run
from torch import Tensor, nn

from dfpl.data.batch import Batch
from dfpl.data.loader import Statistics, View
from dfpl.losses import mean_over, task_loss
from dfpl.method import Method
from dfpl.storage import Storage
from dfpl.train import Fitted, Runtime, Stage, fit, stages_of

PACKED = make_packed()
RUN = make_run(PACKED, optim__epochs=4)


class Output(NamedTuple):
    logits: Tensor
    guess: Tensor
    numbers: Tensor


class TwoStages(Method):
    """Learns to repeat the table's numbers, then to tell the class by what it learned."""

    copied: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body, self.repeat, self.head = nn.Linear(2, 4), nn.Linear(4, 2), nn.Linear(4, 3)
        self.register_buffer("copied", torch.zeros(4, 2))
        self.entered: list[int] = []

    def stages(self) -> tuple[float, ...]:
        return (0.0, 0.5)

    def enter(self, stage: int) -> None:
        self.entered.append(stage)
        self.repeat.requires_grad_(stage == 0)
        self.head.requires_grad_(stage == 1)
        if stage == 1:
            self.copied.copy_(self.body.weight.detach())

    def forward(self, batch: Batch) -> Output:
        numbers = batch.numeric.where(batch.available[:, 1:], 0.0).nan_to_num(0.0)
        hidden = self.body(numbers)
        return Output(self.head(hidden), self.repeat(hidden), numbers)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        if self.entered[-1] == 0:
            gap = (output.guess - output.numbers).square().mean(dim=1)
            return {"guess": mean_over(gap, batch.available[:, 1])}
        return {"task": task_loss(output.logits, batch.label, "ce")}


class Counting(Method):
    """Says how often each class is; nothing in it learns by steps."""

    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shares", torch.zeros(3))

    def prepare(self, train: View, statistics: Statistics, seed: int) -> None:
        label = torch.from_numpy(train.packed.label[train.rows])
        self.shares += torch.bincount(label, minlength=3) / len(label)

    def forward(self, batch: Batch) -> Output:
        return Output(self.shares.log().expand(len(batch.label), 3), self.shares, self.shares)

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        return {"task": task_loss(output.logits, batch.label, "ce")}


@pytest.fixture(autouse=True)
def two_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfpl.train.build", lambda *_: TwoStages())


@pytest.fixture
def fitted() -> Fitted:
    return fit(RUN, PACKED, Runtime())


def numbers(found: Fitted) -> str:
    """The rows of a run but for the time it took, as text: NaN equals itself there."""
    return str([{k: v for k, v in row.items() if k != "seconds"} for row in found.rows])


@pytest.mark.parametrize(
    ("shares", "epochs", "expected"),
    [
        ((0.0,), 7, [(0, 0, 7)]),
        ((0.0, 0.2), 10, [(0, 0, 2), (1, 2, 10)]),
        ((0.0, 0.25, 0.5), 8, [(0, 0, 2), (1, 2, 4), (2, 4, 8)]),
        ((0.0, 0.9), 3, [(0, 0, 2), (1, 2, 3)]),  # the last has an epoch at least
        ((0.0, 0.2), 2, [(1, 0, 2)]),  # a fifth of two epochs is none
        ((0.0, 0.5), 1, [(1, 0, 1)]),
    ],
)
def test_stages_in_whole_epochs(
    shares: tuple[float, ...],
    epochs: int,
    expected: list[tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TwoStages, "stages", lambda self: shares)
    assert stages_of(TwoStages(), epochs) == [Stage(*one) for one in expected]


def test_each_stage_has_its_terms_and_only_the_last_is_scored(fitted: Fitted) -> None:
    terms = [{name for name in row if name.startswith("train/")} for row in fitted.rows]
    assert (
        terms == [{"train/guess", "train/objective"}] * 2 + [{"train/task", "train/objective"}] * 2
    )
    assert [isnan(row["value"]) for row in fitted.rows] == [True, True, False, False]
    assert ["val/accuracy" in row for row in fitted.rows] == [False, False, True, True]
    assert fitted.best_epoch > 2
    assert fitted.best_value == fitted.rows[-1]["value"]


def test_a_stage_begins_once_with_what_the_stage_before_left(fitted: Fitted) -> None:
    method: Any = fitted.method
    assert method.entered == [0, 1]
    assert method.copied.any()
    assert not torch.equal(method.copied, method.body.weight)  # which went on learning


def test_what_does_not_learn_in_a_stage_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []
    enter = TwoStages.enter

    def spy(self: TwoStages, stage: int) -> None:
        seen.append({name: p.detach().clone() for name, p in self.named_parameters()})
        enter(self, stage)

    monkeypatch.setattr(TwoStages, "enter", spy)
    last = dict(fit(RUN, PACKED, Runtime()).method.named_parameters())
    start, between = seen
    assert torch.equal(start["head.weight"], between["head.weight"])
    assert not torch.equal(start["repeat.weight"], between["repeat.weight"])
    assert torch.equal(between["repeat.weight"], last["repeat.weight"])
    assert not torch.equal(between["head.weight"], last["head.weight"])


def test_each_stage_has_a_schedule_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []
    step = torch.optim.AdamW.step

    def spy(self: Any, *args: Any) -> Any:
        used.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    values = {"optim.warmup": 0.5, "optim.learning_rate": 0.004}
    fit(RUN.with_values(values), PACKED, Runtime())  # two steps in each epoch
    assert used == pytest.approx([0.002, 0.004, 0.004, 0.002] * 2)


class Killed(Exception):
    """Stands for a machine that goes away."""


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_a_run_killed_in_any_stage_goes_on_as_if_nothing_had_happened(
    epoch: int, tmp_path: Path, fitted: Fitted
) -> None:
    def report(row: dict[str, float]) -> bool:
        if row["epoch"] == epoch:
            raise Killed
        return True

    kept: dict[str, Any] = {"checkpoints": Storage(tmp_path), "checkpoint_every_s": 0.0}
    with pytest.raises(Killed):
        fit(RUN, PACKED, Runtime(report=report, **kept))
    torch.manual_seed(99)
    found = fit(RUN, PACKED, Runtime(**kept))
    assert numbers(found) == numbers(fitted)
    weights = fitted.method.state_dict()
    for name, value in found.method.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_a_no_in_pre_training_prunes_nothing(fitted: Fitted) -> None:
    found = fit(RUN, PACKED, Runtime(report=lambda row: row["epoch"] != 1))
    assert not found.pruned and numbers(found) == numbers(fitted)
    assert fit(RUN, PACKED, Runtime(report=lambda row: row["epoch"] != 3)).pruned


def test_what_learns_from_the_split_as_a_whole_is_done_after_an_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dfpl.train.build", lambda *_: Counting())
    found = fit(RUN, PACKED, Runtime())
    (row,) = found.rows
    assert not any(name.startswith("train/") for name in row)
    label = PACKED.label[PACKED.rows("train")]
    shares = found.method.state_dict()["shares"]
    assert shares.tolist() == pytest.approx([(label == c).mean() for c in range(3)])
    often = (PACKED.label[PACKED.rows("val")] == shares.argmax().item()).mean()
    assert found.best_value == row["val/accuracy"] == pytest.approx(often)
