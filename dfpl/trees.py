"""Fitted decision trees as tensors: read by PyTorch, saved as any weights, never unpickled.

B samples, F columns, N nodes of all trees together, U distinct leaves; G groups of T trees, each
group for V outputs, in all C = G V outputs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

AT_ONCE = 2**22
"""Pairs of sample and tree that are worked on together."""
BY_FIT = ("feature", "threshold", "left", "right", "empty", "leaf", "values", "root", "depth")


class Tree(NamedTuple):
    """A fitted tree of n nodes, the first of which is its root."""

    feature: Int[np.ndarray, " n"]
    threshold: Float[np.ndarray, " n"]
    left: Int[np.ndarray, " n"]
    right: Int[np.ndarray, " n"]
    empty_left: Bool[np.ndarray, " n"]
    """Whether a sample whose cell is empty goes left."""
    is_leaf: Bool[np.ndarray, " n"]
    value: Float[np.ndarray, "n V"]
    depth: int


class Trees(nn.Module):
    """The sum of what each tree says of a sample x:

        score(x) = base + sum_t value(leaf of tree t that x ends in)

    At a node, x goes left where x[feature] <= threshold, else right, and to `empty` where that
    cell is NaN. A leaf is followed by itself: after `depth` steps every x is in its leaf. Leaves
    of equal value, as all pure ones of a class, share a row of `values`.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    empty: Tensor
    leaf: Tensor
    values: Tensor
    root: Tensor
    depth: Tensor
    base: Tensor

    def __init__(self, num_outputs: int) -> None:
        """Without any tree: the score is `base`, and 0 at first."""
        super().__init__()
        for name in BY_FIT:
            self.register_buffer(name, None)
        self.register_buffer("base", torch.zeros(num_outputs, dtype=torch.float64))
        self.plant([[stump(num_outputs)]], np.zeros(num_outputs))

    def plant(self, groups: Sequence[Sequence[Tree]], base: Float[np.ndarray, " C"]) -> None:
        """Put these G groups of T trees in the place of those that stand."""
        trees = [tree for group in groups for tree in group]
        sizes = np.array([len(tree.feature) for tree in trees])
        starts = sizes.cumsum() - sizes
        at = np.arange(sizes.sum())
        is_leaf = np.concatenate([tree.is_leaf for tree in trees])

        def child(name: str) -> np.ndarray:
            parts = [getattr(tree, name) + start for tree, start in zip(trees, starts, strict=True)]
            return np.where(is_leaf, at, np.concatenate(parts)).astype(np.int32)

        left, right = child("left"), child("right")
        leaf, values = _shared_values(trees)
        found = {
            "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int32),
            "threshold": np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
            "left": left,
            "right": right,
            "empty": np.where(np.concatenate([tree.empty_left for tree in trees]), left, right),
            "leaf": leaf.astype(np.int32),
            "values": values,
            "root": starts.reshape(len(groups), -1),
            "depth": np.array(max(tree.depth for tree in trees)),
        }
        found["feature"][is_leaf] = 0
        for name, value in found.items():
            setattr(self, name, torch.from_numpy(value).to(self.base.device))
        self.base.copy_(torch.from_numpy(base))

    def forward(self, cells: Float[Tensor, "B F"]) -> Float[Tensor, "B C"]:
        """The scores in float64; `cells` is compared in it, too."""
        step = max(1, AT_ONCE // self.root.numel())
        return torch.cat([self._scores(part) for part in cells.double().split(step)])

    def _scores(self, cells: Float[Tensor, "b F"]) -> Float[Tensor, "b C"]:
        groups, trees = self.root.shape
        leaf = self.leaf[self._walk(cells)].view(len(cells) * groups, trees)
        summed = F.embedding_bag(leaf.long(), self.values, mode="sum")  # (b G, V)
        return self.base + summed.view(len(cells), len(self.base))

    def _walk(self, cells: Float[Tensor, "b F"]) -> Int[Tensor, "b GT"]:
        """The leaf in which each sample ends, of each tree."""
        at = self.root.flatten().expand(len(cells), -1)
        for _ in range(int(self.depth)):
            cell = cells.gather(1, self.feature[at].long())
            onward = torch.where(cell <= self.threshold[at], self.left[at], self.right[at])
            at = torch.where(cell.isnan(), self.empty[at], onward)
        return at

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Trees of any number and size may be loaded in the place of those that stand."""
        for name in BY_FIT:
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def stump(num_outputs: int) -> Tree:
    """A tree that says nothing: one leaf, of value 0."""
    none, no = np.zeros(1, np.int32), np.zeros(1, bool)
    return Tree(none, np.zeros(1), none, none, no, ~no, np.zeros((1, num_outputs)), 0)


def _shared_values(
    trees: Sequence[Tree],
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "U V"]]:
    """For each node the row of its value, 0 where it is no leaf, and the distinct values."""
    rows, parts, start = [], [], 0
    for tree in trees:
        own, which = np.unique(tree.value[tree.is_leaf], axis=0, return_inverse=True)
        of_node = np.zeros(len(tree.is_leaf), np.int64)
        of_node[tree.is_leaf] = which.reshape(-1) + start
        rows.append(of_node)
        parts.append(own)
        start += len(own)
    values, which = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    return which.reshape(-1)[np.concatenate(rows)], values
