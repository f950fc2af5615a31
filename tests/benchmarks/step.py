"""One training step: DFPL against its bare encoders, what is absent, and the runtime's options.

Run       python tests/benchmarks/step.py
Makes     runs/benchmarks/step.json
Shows     every case takes turns with the others on the same batch; time is quoted relative to
          DFPL's step (float32, fused Adam, complete data), memory as the bytes per
          sample that autograd keeps for the backward pass. Targets: DFPL / plain <= 1.10, and with
          70 % of the images missing and encode_missing = skip <= 0.5 of the complete step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import tyro
from bench import Row, publish, ratio, take_turns
from shapes import Plain, Shape, batch_of, dfpl_of, stepper
from torch import Tensor

from dfpl.alignment import transport_cost
from dfpl.compute import Compute
from dfpl.data.batch import Batch, layout
from dfpl.memory import SavedBytes
from dfpl.method import Method
from dfpl.step import Stepper
from dfpl.transport import entropic_transport

OTHER_LAYOUT = "channels last on a CPU, first on a GPU"
DFPL, PLAIN, FORWARD = "DFPL", "plain: linear head, cross-entropy", "encoders, forward alone"


@dataclass(frozen=True)
class Settings:
    shape: Shape = field(default_factory=Shape)
    compile: bool = False
    """Time the compiled step too; compiling takes minutes."""
    rounds: int = 5
    threads: int = 1
    device: str = "cuda" if torch.cuda.is_available() else "cpu"


def measure(settings: Settings) -> list[Row]:
    torch.set_num_threads(settings.threads)
    cases = {name: Case(*parts) for name, parts in _steps(settings).items()}
    calls: dict[str, Callable[[], Any]] = {name: case.step for name, case in cases.items()}
    plain = cases[PLAIN].stepper.method
    calls[FORWARD] = lambda: plain.encode(cases[PLAIN].batch)  # pyright: ignore
    calls["transport, both terms"] = _transport(settings)
    seconds = take_turns(calls, settings.rounds)
    return [
        {
            "case": name,
            "time / DFPL": ratio(seconds[name], seconds[DFPL]),
            "DFPL / time": ratio(seconds[DFPL], seconds[name]),
            "KiB kept per sample": cases[name].kept() if name in cases else None,
        }
        for name in calls
    ]


@dataclass(frozen=True)
class Case:
    stepper: Stepper
    batch: Batch

    def step(self) -> None:
        self.stepper.step(self.batch, 1e-4)

    def kept(self) -> float:
        """Bytes per sample kept for the backward pass, weights not counted, in KiB."""
        weights = [*self.stepper.method.parameters(), *self.stepper.method.buffers()]
        with SavedBytes([*weights, *self.batch]) as saved:
            self.stepper.terms(self.batch)
        return saved.total / len(self.batch.label) / 1024


def _steps(settings: Settings) -> dict[str, tuple[Stepper, Batch]]:
    """Every case starts from the same weights; each has a model and an optimiser of its own."""
    shape, device = settings.shape, settings.device
    whole, gaps = batch_of(shape, device), batch_of(shape, device, image_missing=0.7)

    def new(**values: Any) -> Method:
        return dfpl_of(shape, device, **values)

    found = {
        DFPL: (stepper(new()), whole),
        PLAIN: (stepper(Plain(new(), shape.classes).to(device)), whole),
        "images 70 % missing, zeros": (stepper(new(encode_missing="zeros")), gaps),
        "images 70 % missing, skip": (stepper(new(encode_missing="skip")), gaps),
        "bfloat16": (stepper(new(), Compute(precision="bfloat16")), whole),
        OTHER_LAYOUT: _other_layout(stepper(new()), whole, device),
        "Adam not fused": (_not_fused(stepper(new())), whole),
    }
    if settings.compile:
        found["compiled"] = (stepper(new(), Compute(compile=True)), whole)
    return found


def _other_layout(made: Stepper, batch: Batch, device: str) -> tuple[Stepper, Batch]:
    """Channels last on a CPU, where that is not the default, and first on a GPU."""
    layouts = {torch.channels_last, torch.contiguous_format}
    (other,) = layouts - {layout(torch.device(device))}
    module: Any = made.method
    module.to(memory_format=other)
    return made, batch._replace(image=batch.image.contiguous(memory_format=other))


def _not_fused(made: Stepper) -> Stepper:
    made.optimizer = torch.optim.AdamW(made.method.parameters(), weight_decay=0.0, fused=False)
    return made


def _transport(settings: Settings) -> Callable[[], Any]:
    """Both terms of Eq. 5 for prototypes as they are at first, in the raw regime: the slow one."""
    shape = settings.shape
    generator = torch.Generator().manual_seed(0)
    size = (2 * shape.batch, shape.prototypes, shape.width)
    sides = [torch.randn(size, generator=generator).to(settings.device) for _ in range(2)]
    cost: Tensor = transport_cost(*sides).requires_grad_()
    return lambda: entropic_transport(cost, 0.1).value.sum().backward()


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("step", "One training step, relative to DFPL's", measure(settings), settings)
