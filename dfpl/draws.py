"""Who is incomplete under a scenario: how probable it is, exactly, and random draws of it.

N rows, R draws, T rates; M rows leave the state `both` at the highest rate; A strata. Rows that
lack a modality by nature stay as they are. Needs neither torch nor ray.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from dfpl.data.scenario import PATTERNS, Pattern, Scenario
from dfpl.predictions import STATES, Predictions, num_hidden, num_in_states

BOTH, IMAGE_ONLY, TABULAR_ONLY = range(len(STATES))
LEAVES_FOR = {
    "image": (TABULAR_ONLY, TABULAR_ONLY),
    "tabular": (IMAGE_ONLY, IMAGE_ONLY),
    "both": (TABULAR_ONLY, IMAGE_ONLY),
}
"""Into which state the rows go that a draw affects first, third, ... and second, fourth, ..."""


@dataclass(frozen=True)
class Strata:
    """Rows that scenarios treat alike, each taken in each state: what expectations are made of.

    The complete rows of a split are one group, and so are all rows without image and all
    without table; a stratum is a group in a state.
    """

    at: Int[np.ndarray, " E"]
    """Where the elements are in a table (3, N) that is read as one list."""
    row: Int[np.ndarray, " E"]
    of: Int[np.ndarray, " E"]
    """The stratum of each."""
    num_complete: tuple[int, ...]
    """Of each split: its strata are three in a row, by state."""

    @classmethod
    def among(cls, predictions: Predictions) -> "Strata":
        groups = complete_rows(predictions)
        of = np.full((len(STATES), len(predictions)), -1, dtype=np.int64)
        for number, rows in enumerate(groups):
            of[:, rows] = 3 * number + np.arange(3)[:, None]
        for state in (IMAGE_ONLY, TABULAR_ONLY):
            gaps = predictions.exists(STATES[state]) & ~predictions.exists("both")
            of[state, gaps] = 3 * len(groups) + state - 1
        at = np.flatnonzero(of >= 0)
        return cls(at, at % len(predictions), of.ravel()[at], tuple(map(len, groups)))

    def __len__(self) -> int:
        return 3 * len(self.num_complete) + 2

    def shares(self, scenario: Scenario) -> Float[np.ndarray, " A"]:
        """The probability that a row of the group is in the state."""
        shares = [num_in_states(scenario, n) / max(n, 1) for n in self.num_complete]
        return np.concatenate([*shares, np.ones(2)])

    def pairs(self, scenario: Scenario) -> Float[np.ndarray, "A A"]:
        """The probability that two different rows are in a state each.

            P(i in s, j in t) = n_s (n_t - [s = t]) / (n (n - 1))    among n complete rows

        where a draw puts n_s of them into s. Rows of two groups are independent.
        """
        shares = self.shares(scenario)
        found = np.outer(shares, shares)
        for number, n in enumerate(self.num_complete):
            if n > 1:
                own = slice(3 * number, 3 * number + 3)
                counts = num_in_states(scenario, n)
                found[own, own] = (np.outer(counts, counts) - np.diag(counts)) / (n * (n - 1))
        return found


@dataclass(frozen=True)
class Moves:
    """Draws of one pattern, nested in the rate: which rows leave the state `both`, and when."""

    row: Int[np.ndarray, "R M"]
    """Hence also where, in a table (3, N) that is read as one list, the row leaves from."""
    to: Int[np.ndarray, "R M"]
    """Where in that list it goes."""
    step: Int[np.ndarray, " M"]
    """Index of the rate at which it goes; it rises along M and is the same in every draw."""
    num_steps: int

    def __getitem__(self, draws: slice) -> "Moves":
        return Moves(self.row[draws], self.to[draws], self.step, self.num_steps)

    @property
    def num_moved(self) -> Int[np.ndarray, " T"]:
        """How many rows have left at each rate."""
        return np.searchsorted(self.step, np.arange(self.num_steps), side="right")


def draw_moves(
    predictions: Predictions, pattern: Pattern, rates: Sequence[float], draws: int, seed: int
) -> Moves:
    """Draw who is affected at rising rates: as `Scenario.draw` does, at random within each split.

    Depends on the set of ids and the seed alone, and the first draws are the same whatever
    their number. `Scenario.draw` ranks the ids by their hashes, which would take longer than
    everything else here.
    """
    assert list(rates) == sorted(rates)
    generator = np.random.default_rng([seed, 1 + PATTERNS.index(pattern)])
    groups = complete_rows(predictions)
    affected = [_num_affected(pattern, rates, len(rows)) for rows in groups]
    row = np.empty((draws, sum(numbers[-1] for numbers in affected)), dtype=np.int32)
    for draw in range(draws):
        orders = [generator.permutation(rows) for rows in groups]
        row[draw] = np.concatenate([o[: n[-1]] for o, n in zip(orders, affected, strict=True)])
    places = np.concatenate([np.arange(numbers[-1]) for numbers in affected])
    step = np.concatenate([np.searchsorted(n, np.arange(n[-1]), side="right") for n in affected])
    state = np.array(LEAVES_FOR[pattern], dtype=np.int32)[places % 2]
    if len(groups) > 1:  # each split came in the order of its steps
        in_order = np.argsort(step, kind="stable")
        row, state, step = row[:, in_order], state[in_order], step[in_order]
    return Moves(row, row + len(predictions) * state, step, len(rates))


def _num_affected(pattern: Pattern, rates: Sequence[float], num_complete: int) -> list[int]:
    return [sum(num_hidden(Scenario(pattern=pattern, rate=r), num_complete)) for r in rates]


def complete_rows(predictions: Predictions) -> list[Int[np.ndarray, " n"]]:
    """The complete rows of each split, in the order of their ids."""
    complete = predictions.exists("both")
    by_name = np.argsort(predictions.ids)
    kept = by_name[complete[by_name]]
    return [kept[predictions.split[kept] == split] for split in np.unique(predictions.split)]


def states_by_nature(predictions: Predictions) -> Int[np.ndarray, " N"]:
    """The state of each row where nothing is hidden."""
    image, table = predictions.present.T
    return np.where(image & table, BOTH, np.where(image, IMAGE_ONLY, TABULAR_ONLY))


def states_of_draws(
    predictions: Predictions, scenario: Scenario, draws: int, seed: int
) -> Iterator[Int[np.ndarray, " N"]]:
    """Yield the state of each row in each draw."""
    moves = draw_moves(predictions, scenario.pattern, [scenario.rate], draws, seed)
    for row, to in zip(moves.row, moves.to, strict=True):
        states = states_by_nature(predictions)
        states[row] = to // len(predictions)
        yield states
