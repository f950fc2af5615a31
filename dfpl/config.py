"""One frozen object says what a run is: data, method, scenario, optimisation and seed.

Everything that decides the result is in it and nothing else is: no path, device, worker count
or logging. Dotted names (`method.alpha`) are the same in code, search space, error, record and
axis.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny

from dfpl.data.scenario import Scenario
from dfpl.fields import Config, ConfigError

Metric = Literal["accuracy", "balanced_accuracy", "auroc", "prauc"]


class MethodConfig(Config):
    """Base of each method's own config; `name` is the name of the method's file."""

    name: str


class OptimConfig(Config):
    """Optimisation: Adam, linear warm-up, then a cosine to zero (spec section 7)."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Adam's learning rate after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty (decoupled, as in AdamW; 0 is plain Adam)."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Samples per step, summed over all workers."""
    epochs: Annotated[int, Field(ge=1)] = 100
    """Passes over the training split."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the epochs over which the learning rate rises from 0."""


class AugmentConfig(Config):
    """Augmentation of training images, on the device, fixed by (seed, epoch, sample id)."""

    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability of a horizontal flip."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Smallest share of the image's area that a random resized crop keeps; 1 keeps all."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Largest rotation in degrees, either way."""
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Largest relative change of brightness, contrast and saturation."""


class RunConfig(Config):
    """Everything that decides the result of one training run, and nothing else."""

    dataset: str
    """Name of the packed data set."""
    data_hash: str
    """Content hash of the packed data set, so that the same id means the same data."""
    method: SerializeAsAny[MethodConfig]
    scenario: Scenario
    optim: OptimConfig = OptimConfig()
    augment: AugmentConfig = AugmentConfig()
    metric: Metric = "accuracy"
    """Validation metric by which the best epoch and the best config are chosen."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of initial weights, order of samples and augmentation."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], prefix: str = "") -> "RunConfig":
        """Rebuild a run from plain values; the method's config comes from its own file."""
        method = values.get("method")
        if isinstance(method, Mapping):
            values = {**values, "method": _method_config(method, f"{prefix}method.")}
        return super().from_dict(values, prefix)

    @property
    def run_id(self) -> str:
        """The same config gives the same id on every machine."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"{self.dataset}-{self.method.name}-{self.scenario}-s{self.seed}-{digest}"


def _method_config(values: Mapping[str, Any], prefix: str) -> MethodConfig:
    from dfpl.method import load

    if "name" not in values:
        raise ConfigError(f"{prefix}name is missing: it says which method the config is for")
    return load(values["name"]).Config.from_dict(values, prefix)
