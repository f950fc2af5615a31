"""Random forests and gradient boosting over tables: grown by scikit-learn, then plain tensors.

A table is one row of numbers: the standardised numeric columns, then the codes of the categorical
ones as they are, the same that a batch holds; of a time series, each channel's mean, least, largest
and last number over the valid steps. An empty cell and a level that training never showed are both
missing (NaN), and each node has learned where a missing value goes: where training had none there,
to the child with more samples.

R tables, F columns, C classes; T steps of Fs channels.
"""

from math import inf
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from dfpl.config import MethodConfig
from dfpl.data.batch import Batch
from dfpl.data.loader import Statistics, View
from dfpl.data.packed import UNSEEN, Schema
from dfpl.data.scenario import TABULAR
from dfpl.encoders.series import valid_steps
from dfpl.fields import Choice, IntRange
from dfpl.trees import Tree, Trees, stump
from dfpl.unimodal import logits_of

Labels = Int[np.ndarray, " R"] | Float[np.ndarray, "R C"]
Grown = tuple[list[list[Tree]], Float[np.ndarray, " C"]]
"""Groups of trees, and the base of their scores."""


class ForestConfig(MethodConfig):
    """How the trees are grown; what is not here is scikit-learn's default."""

    kind: Literal["random_forest", "boosting"] = "random_forest"
    """Trees on resampled rows, or histogram gradient boosting of up to 31 leaves per tree."""
    num_trees: Annotated[int, Field(ge=1, le=10_000)] = 300
    """Trees of a random forest; rounds of boosting, in each of which every class has a tree."""
    min_leaf: Annotated[int, Field(ge=1)] = 1
    """Least number of training samples in a leaf."""
    max_features: Literal["sqrt"] | Annotated[float, Field(gt=0, le=1)] = "sqrt"
    """Share of the columns that are tried at a node, or as many as the square root of them."""
    shrinkage: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of each tree's answer that boosting adds; a random forest has none."""


FOREST_SPACE = {
    "method.min_leaf": IntRange(1, 20),
    "method.max_features": Choice(("sqrt", 0.5, 1.0)),
}


class ForestClassifier(nn.Module):
    """Logits from the table alone; of no meaning where it is absent. All equal before `grow`."""

    def __init__(self, config: ForestConfig, schema: Schema) -> None:
        super().__init__()
        self.config = config
        self.multilabel = schema.task == "multilabel"
        self.trees = Trees(schema.num_classes)

    def forward(self, batch: Batch) -> Float[Tensor, "B C"]:
        table = [cells(batch.numeric, batch.category), summary(batch.series, batch.length)]
        scores = self.trees(torch.cat(table, dim=1))
        if self.config.kind == "boosting":
            scores = scores.sigmoid() if self.multilabel else scores.softmax(dim=1)
        return logits_of(scores, self.multilabel).to(batch.numeric.dtype)

    def grow(self, train: View, statistics: Statistics, seed: int) -> None:
        """Learn from the tables that are available in the training split, and from no others."""
        rows = train.rows[train.available[:, TABULAR]]
        if not len(rows):
            return
        numbers, codes = train.packed.tables(rows)
        columns = cells(
            torch.from_numpy(np.asarray(statistics.numbers(numbers), np.float32)),
            torch.from_numpy(statistics.codes(codes)),
        )
        series, length = train.packed.time_series(rows)
        steps = torch.from_numpy(statistics.steps(series, length))
        table = torch.cat([columns, summary(steps, torch.from_numpy(length))], dim=1)
        grow = _random_forest if self.config.kind == "random_forest" else _boosting
        label, num_classes = train.packed.label[rows], len(self.trees.base)
        self.trees.plant(*grow(self.config, table.numpy(), label, num_classes, seed % 2**32))


def cells(numeric: Float[Tensor, "B Fn"], category: Int[Tensor, "B Fc"]) -> Float[Tensor, "B F"]:
    """Numbers and codes side by side; NaN where a cell is empty or its level was never seen."""
    codes = torch.where(category > UNSEEN, category.to(numeric.dtype), torch.nan)
    return torch.cat([numeric, codes], dim=1)


def summary(series: Float[Tensor, "B T Fs"], length: Int[Tensor, " B"]) -> Float[Tensor, "B F"]:
    """Mean, least, largest and last number of each channel over the valid steps; NaN for none."""
    B, T, Fs = series.shape
    if not T:
        return series.new_zeros(B, 0)
    valid = valid_steps(series, length)[..., None]
    last = (length - 1).clamp(min=0).view(B, 1, 1).expand(B, 1, Fs)
    found = [
        series.where(valid, 0.0).sum(dim=1) / length[:, None],
        series.where(valid, inf).amin(dim=1),
        series.where(valid, -inf).amax(dim=1),
        series.gather(1, last).squeeze(1),
    ]
    return torch.cat(found, dim=1).where(length[:, None] > 0, torch.nan)


def _random_forest(
    config: ForestConfig, table: Float[np.ndarray, "R F"], label: Labels, C: int, seed: int
) -> Grown:
    """A score is a probability: the mean over trees of the class shares in the leaf."""
    from sklearn.ensemble import RandomForestClassifier  # slow to import: only where it is needed

    model = RandomForestClassifier(
        config.num_trees,
        min_samples_leaf=config.min_leaf,
        max_features=config.max_features,  # pyright: ignore[reportArgumentType]
        random_state=seed,
        n_jobs=torch.get_num_threads(),
    )
    model.fit(table, label[:, 0] if label.shape[1:] == (1,) else label)
    seen = model.classes_ if isinstance(model.classes_, list) else [model.classes_]
    trees = []
    for tree in (estimator.tree_ for estimator in model.estimators_):
        if label.ndim == 1:
            value = np.zeros((tree.node_count, C))
            value[:, seen[0]] = tree.value[:, 0]
        else:
            shares = [tree.value[:, c, : len(k)] @ (k == 1) for c, k in enumerate(seen)]
            value = np.stack(shares, axis=1)
        trees.append(_of_forest(tree, value / config.num_trees))
    return [trees], np.zeros(C)


def _of_forest(tree: Any, value: Float[np.ndarray, "n C"]) -> Tree:
    return Tree(
        feature=tree.feature,
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        empty_left=tree.missing_go_to_left.astype(bool),
        is_leaf=tree.children_left < 0,
        value=value,
        depth=tree.max_depth,
    )


def _boosting(
    config: ForestConfig, table: Float[np.ndarray, "R F"], label: Labels, C: int, seed: int
) -> Grown:
    """A score is a logit; trees of its own for each class of a multi-label task.

    What all training samples are, or none, is certain: infinity. Of two classes that exclude each
    other the first has the logit 0.
    """
    groups = [[stump(1)] * config.num_trees for _ in range(C)]
    if label.ndim == 2:
        base = np.where(label.all(axis=0), inf, -inf)
        tasks = [(label[:, c].astype(np.int64), [c]) for c in range(C)]
    else:
        seen, which = np.unique(label, return_inverse=True)
        base = np.where(np.arange(C) == seen[0], 0.0, -inf)
        tasks = [(which, seen[1:] if len(seen) == 2 else seen)]
    for target, classes in tasks:
        if target.min() < target.max():
            rounds, base[classes] = _boosted(config, table, target, seed)
            for at, c in enumerate(classes):
                groups[c] = [trees[at] for trees in rounds]
    return groups, base


def _boosted(
    config: ForestConfig, table: Float[np.ndarray, "R F"], target: Int[np.ndarray, " R"], seed: int
) -> tuple[list[list[Tree]], Float[np.ndarray, " K"]]:
    """The trees of each round, one per class or one for two classes, and where scores start."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    share = config.max_features
    model = HistGradientBoostingClassifier(
        learning_rate=config.shrinkage,
        max_iter=config.num_trees,
        min_samples_leaf=config.min_leaf,
        max_features=table.shape[1] ** -0.5 if share == "sqrt" else share,
        early_stopping=False,  # pyright: ignore[reportArgumentType]
        random_state=seed,
    )
    unfilled = np.isnan(table).all(axis=0)  # refused; a column that does not vary splits nothing
    with threadpool_limits(torch.get_num_threads(), "openmp"):  # their number changes last bits
        model.fit(np.where(unfilled, 0, table), target)
    rounds: Any = model._predictors
    start: Any = model._baseline_prediction
    return [[_of_boosting(p.nodes) for p in round_] for round_ in rounds], start.reshape(-1)


def _of_boosting(nodes: np.ndarray) -> Tree:
    return Tree(
        feature=nodes["feature_idx"].astype(np.int32),
        threshold=nodes["num_threshold"],
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        empty_left=nodes["missing_go_to_left"].astype(bool),
        is_leaf=nodes["is_leaf"].astype(bool),
        value=nodes["value"][:, None],
        depth=int(nodes["depth"].max()),
    )
