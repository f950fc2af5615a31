"""What each method costs beside DFPL: parameters, a training step, memory, an evaluated scenario.

Run       python tests/benchmarks/cost.py
          python tests/benchmarks/cost.py --batch-size 16 --image-network small --image-size 64 \\
              --width 128 --device cpu
Makes     runs/benchmarks/cost.json, .md, which is printed
Shows     at DVM-CAR's shape, in both-50, with the encoders of all methods alike:
          step       a training step over DFPL's, all methods in turns; where training has stages,
                     the mean over its epochs
          memory     what a step needs per sample beside weights: on a GPU the peak of the memory
                     allocated, on a CPU what autograd keeps for the backward pass; of the
                     dearest stage
          scenario   the time of one evaluated scenario per sample: a pass in three states, and
                     the look-up of the nine scenarios of Table I, over nine
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import tyro
from bench import Row, Spread, publish, ratio, take_turns
from shapes import Shape, packed_of, stepper
from step import Case

from dfpl.data.loader import Loader, View
from dfpl.data.scenario import NINE, Scenario
from dfpl.encoders.image import ImageNetwork
from dfpl.evaluate import predict_split
from dfpl.method import Method, build, names, place
from dfpl.model import Config
from dfpl.robustness import expectations
from dfpl.study.protocol import with_encoders_of

REFERENCE = "dfpl"
MIB = 2**20


@dataclass(frozen=True)
class Settings:
    methods: str = "all"
    """`all`, or a comma-separated list; DFPL is always among them."""
    batch_size: int = 256
    image_network: ImageNetwork = "resnet50"
    image_size: int = 128
    width: int = 512
    classes: int = 286
    heads: int = 8
    repeats: int = 5
    """Rounds, in each of which every method has its turn."""
    threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def shape(self) -> Shape:
        return Shape(
            batch=self.batch_size,
            image_size=self.image_size,
            image_network=self.image_network,
            width=self.width,
            classes=self.classes,
        )


def measure(settings: Settings) -> list[Row]:
    torch.set_num_threads(settings.threads)
    bench = Bench(settings)
    chosen = names() if settings.methods == "all" else settings.methods.split(",")
    listed = list(dict.fromkeys([REFERENCE, *chosen]))
    stages = {name: bench.stages(name) for name in listed}
    memory = {name: max(map(bench.memory, own), default=None) for name, own in stages.items()}
    calls: dict[str, Callable[[], Any]] = {name: bench.evaluation(name) for name in listed}
    for name, own in stages.items():
        calls |= {f"{name}, stage {k}": stage.case.step for k, stage in enumerate(own)}
    seconds = take_turns(calls, settings.repeats)
    steps: dict[str, Any] = {
        name: sum(
            stage.share * np.array(seconds[f"{name}, stage {k}"]) for k, stage in enumerate(own)
        )
        for name, own in stages.items()
        if own
    }
    scored = len(NINE) * settings.batch_size
    return [
        {
            "method": name,
            "parameters, million": bench.num_parameters(name) / 1e6,
            "step / DFPL's": ratio(steps[name], steps[REFERENCE]) if name in steps else None,
            "MiB per sample": memory[name],
            "scenario, µs per sample": Spread.of([1e6 * turn / scored for turn in seconds[name]]),
            "scenario / DFPL's": ratio(seconds[name], seconds[REFERENCE]),
        }
        for name in listed
    ]


@dataclass(frozen=True)
class Stage:
    case: Case
    share: float
    """Of the epochs."""


class Bench:
    """Models of one shape, and the batch that all of them get."""

    def __init__(self, settings: Settings) -> None:
        auto = "cuda" if torch.cuda.is_available() else "cpu"
        name = auto if settings.device == "auto" else settings.device
        self.device, shape = torch.device(name), settings.shape
        self.view = View.of(packed_of(shape, 4 * shape.batch), "train", Scenario.parse("both-50"))
        self.statistics = self.view.statistics()
        loader = Loader(self.view, self.statistics, shape.batch, self.device)
        _, self.batch = next(loader.in_order())
        self.config = Config(
            width=shape.width,
            image_network=settings.image_network,
            tabular_heads=settings.heads,
        )

    def method(self, name: str) -> Method:
        torch.manual_seed(0)
        method = build(with_encoders_of(self.config, name), self.view.packed.schema)
        method.prepare(self.view, self.statistics, seed=0)
        return place(method, self.device)

    def num_parameters(self, name: str) -> int:
        return sum(parameter.numel() for parameter in self.method(name).parameters())

    def stages(self, name: str) -> list[Stage]:
        """What is trained in each stage, with a model of its own; nothing without parameters."""
        method = self.method(name)
        if not list(method.parameters()):
            return []
        found = []
        for number, (start, end) in enumerate(pairwise([*method.stages(), 1.0])):
            method = self.method(name).train()
            method.enter(number)
            found.append(Stage(Case(stepper(method), self.batch), end - start))
        return found

    def memory(self, stage: Stage) -> float:
        """MiB per sample that a step needs beside weights, gradients and Adam's moments."""
        if self.device.type == "cpu":
            return stage.case.kept() / 1024
        stage.case.step()  # so that gradients and moments are there
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        stage.case.step()
        return (torch.cuda.max_memory_allocated() - before) / len(self.batch.label) / MIB

    def evaluation(self, name: str) -> Callable[[], Any]:
        """A pass over as many rows as a batch has, and the nine scenarios looked up."""
        method, packed = self.method(name), self.view.packed
        rows = self.view.rows[: len(self.batch.label)]
        whole = View(packed, rows, packed.present(rows))
        loader = Loader(whole, self.statistics, len(rows), self.device)
        return lambda: expectations(predict_split(method, loader, "train"), NINE, ["accuracy"])


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    title = "What each method costs beside DFPL"
    path = publish("cost", title, measure(settings), settings)
    print(path.with_suffix(".md").read_text(), end="")
