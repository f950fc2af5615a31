"""The contract of a method, and the file system as its registry."""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from math import inf
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfpl import baselines
from dfpl.config import MethodConfig
from dfpl.data.batch import Batch, layout
from dfpl.data.loader import Statistics, View
from dfpl.data.packed import Schema
from dfpl.fields import ConfigError, unknown_name

STATES = {"both": (True, True), "image": (True, False), "tabular": (False, True)}
"""The three states of a sample, by what is available: (image, table)."""
MODALITIES = ("image", "tabular")
"""The names of the columns of availability."""


class Readout(NamedTuple):
    """What a method reads the logits of each sample from."""

    logits: Float[Tensor, "B C"]
    vectors: Float[Tensor, "B E"]
    """What the last linear map reads: one vector for all classes or, where each class has its own,
    that of the class with the largest logit. Never that of the true class: a vector chosen by the
    label would tell the label, whatever the method has learned."""
    attention: Float[Tensor, "B C R"] | None = None
    """Where each class has a vector of its own: the weights with which it mixes the R
    representations of `Method.attended`; exactly 0 for those that are absent, 1 in sum."""


class Method(nn.Module, ABC):
    """A classifier of batches in which a modality may be missing.

    Every learned parameter acts in `forward`; `losses` only reads what `forward` returned. So a
    distributed wrapper sees all parameters, and each loss can be tested without a model.
    """

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """Return a NamedTuple with at least `logits` (B, C)."""

    @abstractmethod
    def losses(self, output: Any, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Return the terms by name, unweighted: as they are reported each epoch."""

    def weight(self, term: str) -> float:
        """The coefficient of a term in the objective; a term of weight 0 is only reported."""
        return 1.0

    def limit(self, term: str) -> float:
        """Training fails where a term is above this: for what must be solved, as the transport."""
        return inf

    def stages(self) -> tuple[float, ...]:
        """Where the stages of training begin, as shares of its epochs; the first is 0.

        Each has an optimiser and a schedule of its own. The best epoch is one of the last stage:
        those before it are pre-training.
        """
        return (0.0,)

    def enter(self, stage: int) -> None:
        """Make ready for a stage: which parameters learn (`requires_grad`), what is copied from
        the stage before, which terms `losses` returns.

        Called before the first step of each stage, and where training resumes within one, then
        before its weights are loaded.
        """

    def prepare(self, train: View, statistics: Statistics, seed: int) -> None:
        """Learn from the training split as a whole, before the first epoch: what no gradient
        finds, such as a forest. A method without parameters has learned all that it will."""

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Logits of each sample in the three states, for `batch` read with both modalities.

        A method whose encoders do not look at the other modality overrides this with one pass.
        """
        logits = {}
        for state, available in STATES.items():
            mask = torch.tensor(available, device=batch.available.device).expand(
                len(batch.label), 2
            )
            logits[state] = self(batch._replace(available=mask)).logits
        return logits

    def representations(self, batch: Batch) -> dict[str, Float[Tensor, "B _"]]:
        """What the method calls shared and specific, as one vector per sample; empty: nothing.

        Names are `<modality> <branch> <what>`, as "tabular shared prototypes". Where a sample lacks
        the modality its vector means nothing; `representations_of` puts NaN there.
        """
        return {}

    def final_layer(self) -> nn.Module | None:
        """The linear map whose input is one vector for all classes of a sample, from which it makes
        the logits in evaluation; None: there is no such map."""
        return None

    def attended(self) -> tuple[str, ...]:
        """Names of the R representations that each class mixes by attention, in order; first the
        modality where it is of one alone. Empty: no class has a vector of its own."""
        return ()

    def readout(self, batch: Batch) -> Readout | None:
        """What the logits are read from, with what is available in `batch`; None: nothing that is
        one vector, as where several classifiers vote. Only in evaluation.

        By default what `final_layer` reads. A method with a vector for each class overrides it.
        """
        layer = self.final_layer()
        if layer is None:
            return None
        read: list[Tensor] = []
        watch = layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            logits = self(batch).logits
        finally:
            watch.remove()
        [vectors] = read
        return Readout(logits, vectors)

    def after_step(self) -> None:
        """Run after each optimiser step, for instance to move an averaged teacher."""


def objective(method: Method, terms: dict[str, Tensor]) -> Float[Tensor, ""]:
    """The weighted sum of the terms, which training minimises."""
    return torch.stack([method.weight(name) * term for name, term in terms.items()]).sum()


def names() -> list[str]:
    """The methods there are: DFPL and every file of `baselines/`."""
    return ["dfpl", *(module.name for module in pkgutil.iter_modules(baselines.__path__))]


def load(name: str) -> ModuleType:
    """Import a method's module, which defines `Config`, `SEARCH_SPACE` and `Model`."""
    if name not in names():
        raise ConfigError(unknown_name(name, names()).replace("field", "method"))
    return importlib.import_module("dfpl.model" if name == "dfpl" else f"dfpl.baselines.{name}")


def build(config: MethodConfig, schema: Schema) -> Method:
    """The untrained method for data of this schema."""
    return load(config.name).Model(config, schema)


def place(method: Method, device: torch.device) -> Method:
    """Move a method to its device, its convolutions laid out like the images that they get."""
    module: Any = method
    dimensions = max((p.dim() for p in method.parameters()), default=0)
    return module.to(device, memory_format=layout(device, max(dimensions, 4)))
