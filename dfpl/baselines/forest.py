"""A forest on the table: what a comparison must beat where the table is there, without any image.

Source       none: a reference row. A random forest is the customary one for tables, and one with
             scikit-learn's defaults is what a competing method's public notebook fits to DVM
What we kept Gini impurity, bootstrap, the square root of the number of columns at each node; codes
             of categories as numbers, as in that notebook
Deviations   300 trees (scikit-learn: 100); `kind` = "boosting" is gradient boosting in its place
             a sample without the table gets the log frequencies of the classes in training
             it has no parameters: it is grown once, before the one epoch that it is given
"""

from typing import Literal

from dfpl.data.loader import Statistics, View
from dfpl.data.packed import Schema
from dfpl.data.scenario import TABULAR
from dfpl.forest import FOREST_SPACE, ForestClassifier, ForestConfig
from dfpl.unimodal import Unimodal


class Config(ForestConfig):
    """How the forest is grown."""

    name: Literal["forest"] = "forest"


SEARCH_SPACE = FOREST_SPACE


class Model(Unimodal):
    """The forest for one schema."""

    classifier: ForestClassifier

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__(ForestClassifier(config, schema), TABULAR, schema, "ce")
        self.config = config

    def prepare(self, train: View, statistics: Statistics, seed: int) -> None:
        super().prepare(train, statistics, seed)
        self.classifier.grow(train, statistics, seed)
