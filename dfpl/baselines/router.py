"""A router: the forest where the table is there, an image model where it is not. No fusion at all.

Source       none: a reference row. With a table as telling as that of DVM it is hard to beat
What we kept a random forest on the table (see `forest`); the image classifier (see `image_only`),
             which learns from every image that is available, whether the table is there or not
Deviations   none

B samples, C classes.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dfpl.data.batch import Batch
from dfpl.data.loader import Statistics, View
from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE, TABULAR
from dfpl.fields import Choice
from dfpl.forest import FOREST_SPACE, ForestClassifier, ForestConfig
from dfpl.losses import mean_over, task_losses
from dfpl.method import Method
from dfpl.unimodal import ImageClassifier, ImageConfig, each_state


class Config(ImageConfig, ForestConfig):
    """How the forest is grown, and the size of the image classifier."""

    name: Literal["router"] = "router"


SEARCH_SPACE = {**FOREST_SPACE, "method.width": Choice((128, 256, 512))}


class Output(NamedTuple):
    """What `forward` found; all that the losses read besides the batch."""

    logits: Float[Tensor, "B C"]
    image_logits: Float[Tensor, "B C"]
    """From the image alone; of no meaning where it is absent."""


class Model(Method):
    """Forest and image classifier for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.config = config
        self.task_loss = "bce" if schema.task == "multilabel" else config.task_loss
        self.forest = ForestClassifier(config, schema)
        self.image = ImageClassifier(config, schema)
        # every worker grows the same forest: no need to send it to all of them in each step
        self._ddp_params_and_buffers_to_ignore = [
            f"forest.{name}" for name, _ in self.forest.named_buffers()
        ]

    def prepare(self, train: View, statistics: Statistics, seed: int) -> None:
        self.forest.grow(train, statistics, seed)

    def forward(self, batch: Batch) -> Output:
        tabular, image = self.forest(batch), self.image(batch)
        return Output(torch.where(batch.available[:, TABULAR, None], tabular, image), image)

    def state_logits(self, batch: Batch) -> dict[str, Float[Tensor, "B C"]]:
        """Both once: neither sees the other modality."""
        tabular, image = self.forest(batch), self.image(batch)
        return {
            state: torch.where(left[:, TABULAR, None], tabular, image)
            for state, left in each_state(batch.available).items()
        }

    def losses(self, output: Output, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The loss of the image classifier, over the samples that have an image."""
        losses = task_losses(output.image_logits, batch.label, self.task_loss).mean(dim=1)
        return {"image_task": mean_over(losses, batch.available[:, IMAGE])}
