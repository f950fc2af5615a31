"""One step: the precisions, the compiler, and the limits of what is solved in it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import torch
import workers
from samples import MIXED, SCHEMA, SMALL, make_batch, make_packed, make_run
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from dfpl.compute import Compute
from dfpl.config import OptimConfig
from dfpl.data.batch import Batch
from dfpl.losses import task_loss
from dfpl.method import Method, build
from dfpl.model import Config, Model
from dfpl.step import Stepper, in_float32
from dfpl.storage import Storage
from dfpl.train import NotConvergedError, Runtime, fit


def stepper(compute: Compute, **optim: Any) -> Stepper:
    torch.manual_seed(0)
    method = build(Config.from_dict(SMALL), SCHEMA).train()
    return Stepper(method, OptimConfig(**optim), compute)


def test_a_step_is_adams_at_the_given_rate() -> None:
    # Adam's first step moves each weight by rate * g / (|g| + eps)
    made, batch = stepper(Compute(), learning_rate=0.5), make_batch(MIXED)
    before = {name: p.detach().clone() for name, p in made.method.named_parameters()}
    made.step(batch, 0.01)
    for name, parameter in made.method.named_parameters():
        assert parameter.grad is not None
        moved = 0.01 * parameter.grad / (parameter.grad.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), before[name] - moved, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_close_and_its_losses_are_float32() -> None:
    batch = make_batch(MIXED)
    exact, rough = (stepper(Compute(precision=p)) for p in ("float32", "bfloat16"))
    found, expected = rough.terms(batch), exact.terms(batch)
    assert all(term.dtype == torch.float32 for term in found.values())
    assert any(not torch.equal(found[name], expected[name]) for name in found)
    for name in ("task", "token_alignment", "diversity"):
        torch.testing.assert_close(found[name], expected[name], rtol=0.05, atol=0.01)
    rough.step(batch, 1e-3)
    for parameter in rough.method.parameters():
        assert parameter.dtype == torch.float32 and parameter.isfinite().all()


class Nest(NamedTuple):
    logits: Tensor
    inner: tuple[Tensor, ...] | None
    flag: Tensor


class Inner(NamedTuple):
    a: Tensor


def test_a_nest_comes_back_in_its_own_types() -> None:
    low = torch.ones(2, dtype=torch.bfloat16)
    found = in_float32(Nest(low, Inner(low), torch.tensor([True])))
    assert isinstance(found, Nest) and isinstance(found.inner, Inner)
    assert found.logits.dtype == found.inner.a.dtype == torch.float32
    assert found.flag.dtype == torch.bool
    assert in_float32(Nest(low, None, low)).inner is None
    plain = in_float32({"a": [low, (low,)]})
    assert plain["a"][0].dtype == plain["a"][1][0].dtype == torch.float32


def test_a_run_in_bfloat16_is_evaluated_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = make_packed()
    run = make_run(packed, optim__epochs=2)
    forward, seen = Model.forward, set()

    def spy(self: Model, batch: Batch) -> Any:
        seen.add((self.training, torch.is_autocast_enabled("cpu")))
        return forward(self, batch)

    monkeypatch.setattr(Model, "forward", spy)
    found = fit(run, packed, Runtime(compute=Compute(precision="bfloat16")))
    assert seen == {(True, True), (False, False)}
    exact = fit(run, packed, Runtime())
    assert found.rows[0]["train/objective"] != exact.rows[0]["train/objective"]
    assert found.rows[0]["train/objective"] == pytest.approx(
        exact.rows[0]["train/objective"], rel=0.02
    )


COMPILED = """
import sys
sys.path.insert(0, {tests!r})
from samples import make_packed, make_run
from dfpl.compute import Compute
from dfpl.train import Runtime, fit
packed = make_packed()
run = make_run(packed, optim__epochs=1, method__encode_missing="skip")
plain, compiled = (fit(run, packed, Runtime(compute=Compute(compile=c))) for c in (False, True))
for name, value in plain.rows[0].items():
    if name != "seconds":
        assert abs(compiled.rows[0][name] - value) <= 1e-3 * max(abs(value), 1), name
from torch._dynamo.utils import counters
assert counters["stats"]["unique_graphs"] > 0
print("same")
"""


NEEDS_COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)


@NEEDS_COMPILER
def test_a_compiled_run_gives_the_same_numbers(tmp_path: Path) -> None:
    """In a process of its own: shape checks of the tests stop the compiler. What is absent is
    skipped, so that the shapes change from batch to batch."""
    script = COMPILED.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=280
    )
    assert done.stdout.strip() == "same", done.stderr[-2000:]


class Normed(Method):
    """Little to write kernels for, and a normalisation over all workers in it."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 3)

    def forward(self, batch: Batch) -> Nest:
        image = batch.image.where(batch.available[:, 0, None, None, None], 0.0)
        return Nest(self.head(self.norm(image).relu().mean((2, 3))), None, batch.available)

    def losses(self, output: Nest, batch: Batch) -> dict[str, Tensor]:
        return {"task": task_loss(output.logits, batch.label, "ce")}


Made = Callable[..., Method]


def one_epoch(made: Made, runtime: Runtime) -> dict[str, Any]:
    packed = make_packed()
    with patch("dfpl.train.build", made):
        return fit(make_run(packed, optim__epochs=1), packed, runtime).rows[0]


def compiled_worker(made: Made, backend: str, me: int, folder: Path) -> None:
    runtime = Runtime(compute=Compute(compile=True), wrap=DistributedDataParallel)
    with patch("torch.compile", partial(torch.compile, backend=backend)):
        row = one_epoch(made, runtime)
    graphs = counters["stats"]["unique_graphs"]
    Storage(folder).write_json(f"{me}.json", {**row, "graphs": graphs})


@NEEDS_COMPILER
@pytest.mark.parametrize(("made", "backend"), [(build, "aot_eager"), (Normed, "inductor")])
def test_two_compiled_workers_give_the_numbers_of_one_that_is_not(
    made: Made, backend: str, tmp_path: Path
) -> None:
    """DFPL as the compiler captures it. Its kernels would take minutes: those of less."""
    workers.start(partial(compiled_worker, made, backend), 2, tmp_path)
    expected = one_epoch(made, Runtime())
    expected.pop("seconds")
    for me in range(2):
        found = Storage(tmp_path).read_json(f"{me}.json")
        assert found.pop("seconds") > 0 and found.pop("graphs") > 0
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_transport_that_did_not_converge_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, calls = Model.losses, []

    def unsolved(self: Model, output: Any, batch: Batch) -> dict[str, Tensor]:
        calls.append(1)
        terms = losses(self, output, batch)
        return {**terms, "transport_violation": torch.tensor(0.03 if len(calls) == 3 else 9e-6)}

    monkeypatch.setattr(Model, "losses", unsolved)
    packed = make_packed()
    with pytest.raises(NotConvergedError, match=r"violation = 0\.03 in epoch 2, step 1, but"):
        fit(make_run(packed), packed, Runtime())


def test_the_violation_is_that_of_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that is cut short is noticed by its own report."""
    monkeypatch.setattr("dfpl.transport.SWEEPS", 1)
    monkeypatch.setattr("dfpl.transport.MOST_STEPS", 1)
    packed = make_packed()
    with pytest.raises(NotConvergedError, match="transport_violation"):
        fit(make_run(packed, method__epsilon=0.01), packed, Runtime())
