"""The persons of a look-alike MIMIC: their stays, the factors behind everything, and the labels."""

from functools import cached_property
from statistics import NormalDist
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from dfpl.data.extraction.phenotypes import PHENOTYPES
from dfpl.data.twins import TwinOptions

KINDS = 20
"""Stay number n is of kind n modulo 20: what is irregular about it."""
TWO_AP, BEFORE, AFTER, NO_FILM, LATERAL, SHORT, TINY, NEGATIVE, PA, LATER_LATERAL = range(10)
LATER_AP, OUTLIER = 10, 11
AGAIN = 8  # each eighth stay is the second one of the person before it
FACTORS = ["shared_0", "shared_1", "image_only_0", "image_only_1", "table_only_0", "table_only_1"]
NOISE = 0.6  # of the labels, beside three factors of variance 1
PREVALENCE = (0.03, 0.5)
HOUR = 3600
UNITS = ("Medical Intensive Care Unit (MICU)", "Cardiac Vascular Intensive Care Unit (CVICU)")
ETHNICITIES = ("WHITE", "BLACK/AFRICAN AMERICAN", "ASIAN", "UNKNOWN")


class Options(TwinOptions):
    """How large a look-alike of MIMIC-IV and MIMIC-CXR is, and at which level it lies."""

    size: Annotated[int, Field(ge=20, le=100_000)] = 240
    """ICU stays that pass the filters of the cohort."""
    level: Literal["benchmark", "raw"] = "benchmark"
    """What the reference extraction writes, or the tables of MIMIC-IV that it reads."""
    version: Literal["1.0", "2.2"] = "1.0"
    """Release of MIMIC-IV that the raw tables look like."""
    compressed: bool = False
    """Write raw tables and the lists of films as .csv.gz."""
    events_per_stay: Annotated[int, Field(ge=20, le=20_000)] = 160
    """Measurements of a stay, about."""
    pixels: Annotated[int, Field(ge=16)] = 64
    """Height of the films (about 3,000 in the real data); their width is 6/5 of it."""


class Stays:
    """The stays of a look-alike in their order. Each array has a row per stay."""

    def __init__(self, options: Options) -> None:
        rng = np.random.default_rng([options.seed, 0])
        self.size = size = options.size
        self.number: Int64[np.ndarray, " N"] = np.arange(size)
        self.kind: Int64[np.ndarray, " N"] = self.number % KINDS
        self.again: Bool[np.ndarray, " N"] = self.number % AGAIN == AGAIN - 1
        self.person: Int64[np.ndarray, " N"] = np.cumsum(~self.again) - 1
        self.persons = int(self.person[-1]) + 1
        self.factors: Float64[np.ndarray, "N 6"] = rng.standard_normal((size, len(FACTORS))).round(
            4
        )
        self.start = self._starts(rng)
        hours = 30 + rng.gamma(2, 30, size)
        hours[self.kind == SHORT] = 20.5
        hours[self.kind == TINY] = 0.7
        self.seconds: Int64[np.ndarray, " N"] = (HOUR * hours).astype(np.int64)
        self.age: Int64[np.ndarray, " N"] = rng.integers(20, 90, self.persons)
        self.male: Bool[np.ndarray, " N"] = rng.random(self.persons) < 0.55
        self.ethnicity: Int64[np.ndarray, " N"] = rng.integers(0, len(ETHNICITIES), self.persons)
        last = np.r_[~self.again[1:], True]
        self.died: Bool[np.ndarray, " N"] = last & (rng.random(size) < 0.1)
        self.unit: Int64[np.ndarray, " N"] = rng.integers(0, len(UNITS), size)
        self.split = self._splits(rng)
        self.labels = self._labels(rng)

    def _starts(self, rng: np.random.Generator) -> Int64[np.ndarray, " N"]:
        """Seconds since 1970, in the years 2110 to 2200; 100 days later for the second stay."""
        first = np.datetime64("2110-01-01", "s").astype(np.int64)
        starts = first + rng.integers(0, 90 * 365 * 24 * HOUR, self.persons)[self.person]
        return starts + 100 * 24 * HOUR * self.again

    def _splits(self, rng: np.random.Generator) -> np.ndarray:
        """By person: 20 % test, 10 % of the others val."""
        order = rng.permutation(self.persons)
        test = round(0.2 * self.persons)
        val = test + round(0.1 * (self.persons - test))
        split = np.full(self.persons, "train", dtype=object)
        split[order[:test]], split[order[test:val]] = "test", "val"
        return split[self.person]

    def _labels(self, rng: np.random.Generator) -> Bool[np.ndarray, "N C"]:
        """A label is 1 where the sum of a factor of each kind and noise is over its threshold.

        Among the stays of a split that have a film of their own, if there are two or more, each
        label is 1 at least once, and 0 at least once.
        """
        number = np.arange(len(PHENOTYPES))
        chosen = np.stack([number % 2, 2 + number // 2 % 2, 4 + number // 4 % 2])  # (3, C)
        signs = 1 - 2 * (np.stack([number // 8, number // 3, number // 5]) % 2)
        scores = (self.factors[:, chosen] * signs).sum(axis=1)  # (N, C)
        scores += NOISE * rng.standard_normal(scores.shape)
        low, high = PREVALENCE
        shares = low * (high / low) ** (7 * number % len(number) / (len(number) - 1))
        spread = (3 + NOISE**2) ** 0.5
        labels = scores > [spread * NormalDist().inv_cdf(1 - share) for share in shares]
        for split in ("train", "val", "test"):
            rows = np.flatnonzero(self.has_film & (self.split == split))
            if len(rows) >= 2:
                order = scores[rows].argsort(axis=0)
                labels[rows[order[-1]], number] = True
                labels[rows[order[0]], number] = False
        return labels

    @property
    def has_film(self) -> Bool[np.ndarray, " N"]:
        """Whether the recipe finds a film: AP, within the first 48 hours."""
        return ~np.isin(self.kind, (BEFORE, AFTER, NO_FILM, LATERAL, PA))

    @cached_property
    def subject_id(self) -> Int64[np.ndarray, " N"]:
        return 10_900_000 + 1_000_000 * (self.person % 10) + self.person // 10

    @cached_property
    def hadm_id(self) -> Int64[np.ndarray, " N"]:
        return 20_000_000 + 17 * self.number

    @cached_property
    def stay_id(self) -> Int64[np.ndarray, " N"]:
        return 30_000_000 + 13 * (self.size - self.number)

    @property
    def episode(self) -> Int64[np.ndarray, " N"]:
        return 1 + self.again.astype(np.int64)

    @property
    def end(self) -> Int64[np.ndarray, " N"]:
        return self.start + self.seconds

    @property
    def los(self) -> Float64[np.ndarray, " N"]:
        """Length in days."""
        return (self.seconds / (24 * HOUR)).round(8)

    @property
    def death(self) -> np.ndarray:
        """When a person died within the stay, else NaT."""
        return times(np.where(self.died, self.end - 60, -1))


def times(seconds: Int64[np.ndarray, " N"]) -> np.ndarray:
    """Seconds since 1970 as times; NaT where they are negative."""
    found = seconds.astype("datetime64[s]")
    found[seconds < 0] = np.datetime64("NaT")
    return found
