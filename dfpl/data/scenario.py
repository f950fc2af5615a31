"""Which modality of which sample is absent: missingness as data, readable as a sentence."""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Literal, cast, get_args

import numpy as np
from jaxtyping import Bool
from pydantic import Field

from dfpl.fields import Config, ConfigError

IMAGE, TABULAR = 0, 1  # columns of every availability array
Pattern = Literal["tabular", "image", "both"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)


class Scenario(Config):
    """A share `rate` of the samples lacks a modality; `pattern` says which one.

    Under "both", every other affected sample lacks the image, the rest lack the table: none
    loses both, and both-30 leaves 85 % of each (Table I). Scenarios of one pattern are nested:
    what is missing at 30 % is missing at 50 %.
    """

    pattern: Pattern
    """Which modality goes missing."""
    rate: Annotated[float, Field(ge=0, le=1)]
    """Share of the samples of a split that are incomplete (a fraction, eta of the paper)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Which draw of the incomplete samples; the same for all runs that are to be compared."""

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> "Scenario":
        """Read `both-50`: the pattern, then the rate in percent."""
        found = re.fullmatch(r"(tabular|image|both)-(\d+(?:\.\d+)?)", text.strip())
        if found is None or float(found[2]) > 100:
            raise ConfigError(
                f"no scenario {text!r}: it is a pattern (tabular, image, both) and a rate in "
                f"percent from 0 to 100, such as both-50"
            )
        return cls(pattern=cast(Pattern, found[1]), rate=float(found[2]) / 100, seed=seed)

    def __str__(self) -> str:
        return f"{self.pattern}-{100 * self.rate:g}"

    def draw(self, sample_ids: Sequence[str]) -> Bool[np.ndarray, "N 2"]:
        """Return which of (image, tabular) each sample has.

        Depends on the set of ids, the pattern and `seed` alone, never on row order: the samples
        are ranked by a number drawn for each id, and the first `rate * N` are incomplete.
        """
        lots = [(_lot(f"{self.seed}/{self.pattern}/{name}"), name) for name in sample_ids]
        order = np.array(sorted(range(len(lots)), key=lots.__getitem__), dtype=np.int64)
        affected = order[: round(self.rate * len(order))]
        available = np.ones((len(order), 2), dtype=bool)
        match self.pattern:
            case "image":
                available[affected, IMAGE] = False
            case "tabular":
                available[affected, TABULAR] = False
            case "both":
                available[affected[0::2], IMAGE] = False
                available[affected[1::2], TABULAR] = False
        return available

    def hide(
        self, sample_ids: Sequence[str], present: Bool[np.ndarray, "N 2"]
    ) -> Bool[np.ndarray, "N 2"]:
        """Return what is available when the scenario meets data with gaps of their own.

        Samples that lack a modality by nature stay as they are; the scenario is drawn among
        the complete ones, so no sample ever loses both.
        """
        complete = present.all(axis=1)
        available = present.copy()
        available[complete] = self.draw([sample_ids[i] for i in np.flatnonzero(complete).tolist()])
        return available


def _lot(text: str) -> int:
    """A number drawn for `text`: the same on every machine, in every order."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


NINE = tuple(
    Scenario(pattern=pattern, rate=rate) for pattern in PATTERNS for rate in (0.3, 0.5, 0.7)
)
"""The nine scenarios of Table I."""

CURVES = tuple(
    Scenario(pattern=pattern, rate=percent / 100)
    for pattern in PATTERNS
    for percent in range(10, 100, 10)
)
"""Each pattern from 10 to 90 %, as in Figure 4."""

SETS = {"all": NINE, "curves": CURVES}


def parse_scenarios(text: str) -> list[Scenario]:
    """Read a comma-separated list of scenarios and sets, such as `both-50`, `all,curves`.

    What several sets have in common is in the list once; a scenario named twice is refused.
    """
    parts = [part.strip() for part in text.split(",")]
    single = [str(Scenario.parse(part)) for part in parts if part not in SETS]
    if len(set(single)) < len(single):
        raise ConfigError(f"--scenarios lists a scenario twice: {text}")
    listed = [SETS[part] if part in SETS else (Scenario.parse(part),) for part in parts]
    return list(dict.fromkeys(scenario for scenarios in listed for scenario in scenarios))
