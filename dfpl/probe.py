"""Linear probes: how well a method's representations tell the true factors of a look-alike.

The factors are columns of its `factors.csv`, named by what shows them: shared, image_only,
table_only. Ridge regression from a representation to each factor is fitted on the train split and
scored on another one. Only complete samples are probed, read with both modalities.

    R^2 = 1 - sum_i (y_i - f(x_i))^2 / sum_i (y_i - mean y)^2

1: all of the factor; 0: chance, which is to tell everyone's mean; below 0: worse than that. What
blurs a factor in image or table keeps R^2 below 1 for every representation of that modality, so
branches compare best by the same factor. Importing this does not import torch.

N samples, M others, F factors, R resamples; D width, each representation's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from rich.console import Group
from rich.table import Column, Table

from dfpl.data.packed import DataError, Split
from dfpl.data.raw import column
from dfpl.data.sources.table import numeric_cells, read_cells
from dfpl.intervals import Estimate, difference, estimate, resample_weights

SHARED = "shared"
OWN = {"image": "image_only", "tabular": "table_only"}
"""How the names of the factors begin that only this modality shows."""
SAID = {"both": "what is shared", "own": "what its modality alone shows"}
PENALTIES = np.logspace(-6, 4, 21)
"""Of the ridge regression, per sample; leave-one-out on the train split chooses one per factor."""


@dataclass(frozen=True)
class Represented:
    """What a method says of the complete samples of a split."""

    split: Split
    ids: list[str]
    groups: Shaped[np.ndarray, " N"]
    """Rows of one group are resampled together."""
    vectors: dict[str, Float[np.ndarray, "N _"]]
    """By name, as in `Method.representations`: `<modality> <branch> <what>`."""

    @property
    def where(self) -> str:
        return f"the {len(self.ids)} complete samples of the {self.split} split"


@dataclass(frozen=True)
class Factors:
    """The true factors of a look-alike, by the id of the sample as it is packed."""

    path: Path
    table: pd.DataFrame
    """A column per factor; the index holds the ids."""

    @classmethod
    def read(cls, path: Path) -> "Factors":
        """Read a `factors.csv`. Raises DataError with every problem of the file."""
        cells = read_cells(path)
        kinds = (SHARED, *OWN.values())
        names = [name for name in cells if str(name).startswith(kinds)]
        if "id" not in cells or not names:
            raise DataError(
                f"{path} holds no factors: it needs a column id and columns whose names begin "
                f"with {', '.join(kinds)}; it has {', '.join(cells)}"
            )
        table, problems = pd.DataFrame(index=column(cells, "id")), []
        if twice := int(table.index.duplicated().sum()):
            problems.append(f"{twice} rows repeat an id of a row above")
        for name in names:
            try:
                table[name] = numeric_cells(column(cells, name))
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError("\n".join(f"{path}: {problem}" for problem in problems))
        return cls(path, table)

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.table]

    def of(self, *parts: Represented) -> list[Float[np.ndarray, "_ F"]]:
        """The factors of the samples of each part. Raises DataError with the number of samples
        that have none, and with the names of factors that do not vary."""
        if problems := [text for part in parts for text in self._problems(part)]:
            raise DataError("\n".join(problems))
        return [self.table.loc[part.ids].to_numpy() for part in parts]

    def _problems(self, part: Represented) -> Iterator[str]:
        missing = [name for name in part.ids if name not in self.table.index]
        if missing:
            yield (
                f"{self.path} lacks {len(missing)} of {part.where}, e.g. {missing[0]!r}; give the "
                "factors.csv that lies beside the raw data which was packed"
            )
            return
        for name, values in self.table.loc[part.ids].items():
            if lost := int((~np.isfinite(values)).sum()):
                yield f"{self.path}: factor {name!r} is no finite number for {lost} of {part.where}"
            elif values.nunique() < 2:
                yield (
                    f"{self.path}: factor {name!r} does not vary over {part.where}, so there is "
                    "nothing to predict; delete its column"
                )


class Probed(NamedTuple):
    """How well one representation tells one factor."""

    representation: str
    factor: str
    scores: Float[np.ndarray, " R"]
    """R^2 of the rows as they are, then of each resample of groups, the same for all."""

    @property
    def branch(self) -> str:
        return self.representation.split()[1]

    @property
    def shown_by(self) -> str:
        """Whether both modalities show the factor, this one alone, or only the other."""
        modality = self.representation.split()[0]
        if self.factor.startswith(SHARED):
            return "both"
        return "own" if self.factor.startswith(OWN[modality]) else "other"


def probe(
    train: Represented, test: Represented, factors: Factors, *, resamples: int = 1000, seed: int = 0
) -> list[Probed]:
    """Fit on `train` and score on `test`, each representation with each factor."""
    known, truth = factors.of(train, test)
    weights = resample_weights(test.groups, resamples, seed)
    weights = np.concatenate([np.ones((1, len(test.ids))), weights])
    found = []
    for name, vectors in train.vectors.items():
        told = predicted(vectors, known, test.vectors[name])
        scores = r_squared(truth, told, weights)
        found += [Probed(name, *pair) for pair in zip(factors.names, scores.T, strict=True)]
    return found


def predicted(
    vectors: Float[np.ndarray, "N D"],
    factors: Float[np.ndarray, "N F"],
    others: Float[np.ndarray, "M D"],
) -> Float[np.ndarray, "M F"]:
    """What ridge regression, fitted to the factors of `vectors`, tells of `others`.

        minimise over b, w:  sum_i (y_i - b - w . x_i)^2 + N penalty |w|^2,   x standardised

    Each factor has the penalty whose squared leave-one-out error is the least.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(vectors.astype(np.float64))
    ridge = RidgeCV(len(vectors) * PENALTIES, alpha_per_target=True)
    ridge.fit(scale.transform(vectors.astype(np.float64)), factors)
    return ridge.predict(scale.transform(others.astype(np.float64))).reshape(len(others), -1)


def r_squared(
    truth: Float[np.ndarray, "N F"],
    told: Float[np.ndarray, "N F"],
    weights: Float[np.ndarray, "R N"],
) -> Float[np.ndarray, "R F"]:
    """R^2 where row i counts w_i times; NaN where the rows that count do not vary.

    1 - sum_i w_i (y_i - f_i)^2 / sum_i w_i (y_i - mean_w y)^2
    """
    around = truth - truth.mean(axis=0)
    squares = weights @ around**2
    spread = squares - (weights @ around) ** 2 / weights.sum(axis=1, keepdims=True)
    spread[spread <= 1e-12 * squares] = np.nan
    return 1 - weights @ (truth - told) ** 2 / spread


def probe_report(found: list[Probed], train: Represented, test: Represented) -> Group:
    """R^2 of each representation and factor with its interval, and what follows from them."""
    title = (
        f"R^2 of linear probes (1: all, 0: chance) on {test.where}, in the state both, with 95 % "
        f"intervals over groups; fitted on {train.where}"
    )
    factors = list(dict.fromkeys(own.factor for own in found))
    name = Column("representation", no_wrap=True)
    shown = Table(name, *factors, title=title, title_justify="left")
    for name in dict.fromkeys(own.representation for own in found):
        cells = [_cell(estimate(own.scores)) for own in found if own.representation == name]
        shown.add_row(name, *cells)
    return Group(shown, *conclusions(found))


def conclusions(found: list[Probed]) -> Iterator[str]:
    """Does "shared" hold what is shared, and "specific" what is specific?

    Means of R^2 over representations and factors; a difference has the interval of paired
    resamples. What a modality cannot show is told by chance, unless factors are correlated.
    """
    for branch, first, second in (("shared", "both", "own"), ("specific", "own", "both")):
        a, b = (_mean(found, by, branch) for by in (first, second))
        if a is not None and b is not None:
            word, gap = _compared(a, b)
            yield (
                f"{branch!r} tells {word} of {SAID[first]} ({_of(a)}) than of {SAID[second]} "
                f"({_of(b)}): {gap}"
            )
    for by, first, second in (("both", "shared", "specific"), ("own", "specific", "shared")):
        a, b = (_mean(found, by, branch) for branch in (first, second))
        if a is not None and b is not None:
            word, gap = _compared(a, b)
            yield f"of {SAID[by]}, {first!r} tells {word} than {second!r}: {gap}"
    if (control := _mean(found, "other", "")) is not None:
        yield (
            f"chance is 0; measured, by what only the other modality shows: {_of(control)}, above "
            "0 only where factors are correlated"
        )


def _mean(found: list[Probed], by: str, branch: str) -> Float[np.ndarray, " R"] | None:
    """Over the factors that are shown by this, and a branch, or all; None if there are none."""
    scores = [own.scores for own in found if own.shown_by == by and own.branch.startswith(branch)]
    return np.mean(scores, axis=0) if scores else None


def _compared(a: Float[np.ndarray, " R"], b: Float[np.ndarray, " R"]) -> tuple[str, str]:
    gap = Estimate(*difference(a, b))
    word = "MORE" if gap.low > 0 else "LESS" if gap.high < 0 else "NO MORE AND NO LESS"
    return word, f"difference {_cell(gap)}"


def _of(scores: Float[np.ndarray, " R"]) -> str:
    return f"R^2 {_cell(estimate(scores))}"


def _cell(found: Estimate) -> str:
    return f"{found.value:z.2f} [{found.low:z.2f}, {min(found.high, 1.0):z.2f}]"
