"""The image alone: what a comparison's other methods must reach where the image is there.

Source       none: a reference row, with the image encoder that all methods share
What we kept the mean of the encoder's tokens, a linear map and cross-entropy
Deviations   none; a sample without the image gets the same learned logits as all such samples,
             which start at the log frequencies of the classes in the training split
"""

from typing import Literal

from dfpl.data.packed import Schema
from dfpl.data.scenario import IMAGE
from dfpl.fields import Choice
from dfpl.unimodal import ImageClassifier, ImageConfig, Unimodal


class Config(ImageConfig):
    """The size of the image classifier."""

    name: Literal["image_only"] = "image_only"


SEARCH_SPACE = {"method.width": Choice((128, 256, 512))}


class Model(Unimodal):
    """The image classifier for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__(ImageClassifier(config, schema), IMAGE, schema, config.task_loss)
        self.config = config
