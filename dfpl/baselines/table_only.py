"""The table alone: what a comparison's other methods must reach where the table is there.

Source       none: a reference row, with the tabular encoder that all methods share
What we kept the mean of the encoder's tokens, a linear map and cross-entropy
Deviations   none; a sample without the table gets the same learned logits as all such samples,
             which start at the log frequencies of the classes in the training split
"""

from typing import Literal

from dfpl.data.packed import Schema
from dfpl.data.scenario import TABULAR
from dfpl.fields import IntRange
from dfpl.unimodal import TableClassifier, TableConfig, Unimodal


class Config(TableConfig):
    """The size of the tabular classifier."""

    name: Literal["table_only"] = "table_only"


SEARCH_SPACE = {"method.tabular_depth": IntRange(1, 8)}


class Model(Unimodal):
    """The tabular classifier for one schema."""

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__(TableClassifier(config, schema), TABULAR, schema, config.task_loss)
        self.config = config
