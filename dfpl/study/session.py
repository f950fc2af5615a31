"""What the driver of a study leaves about itself, so that others can see how far it is.

`progress/<session>.json` says what it was asked for and is written when it starts;
`heartbeats/<session>.json` says that it lives and is rewritten every few seconds.
"""

import time
from dataclasses import asdict, dataclass, field
from typing import Literal

from dfpl.storage import Storage

HEARTBEAT_S = 5.0
"""Least seconds between two heartbeats of a driver."""
SILENT_S = 60.0
"""A driver that was not heard of for so long is taken for dead."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a driver was asked for: a search's trials or a sweep's runs."""

    name: str
    """`search`, or the name of the sweep."""
    trials: dict[str, int]
    """Trials per search."""
    runs: dict[str, list[str]] = field(default_factory=dict)
    """Run ids of a sweep, which suggests nothing, in the order of its trials."""
    concurrent: int
    started_at: float = field(default_factory=time.time)

    def save(self, root: Storage) -> None:
        root.write_json(f"progress/{self.name}.json", asdict(self))


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """The last that was heard of a driver."""

    at: float
    ended: bool = False

    def save(self, root: Storage, session: str) -> None:
        root.write_json(f"heartbeats/{session}.json", asdict(self))

    def driver(self, now: float) -> "Driver":
        """What that says of the driver now. The clocks of two machines may differ a little."""
        silent_s = max(0.0, now - self.at)
        if self.ended:
            return Driver(state="ended", heard_s=silent_s)
        return Driver(state="running" if silent_s < SILENT_S else "silent", heard_s=silent_s)


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Whether the driver of a study runs; `unknown` where it left no heartbeat."""

    state: Literal["running", "silent", "ended", "unknown"] = "unknown"
    heard_s: float | None = None
    """Seconds since it was last heard of."""


def read_sessions(root: Storage) -> list[tuple[Session, Heartbeat]]:
    """What drivers left, the one that was heard of last at the end; spoilt files are none."""
    found: list[tuple[Session, Heartbeat]] = []
    for file in (root / "progress").names(".json"):
        try:
            session = Session(**root.read_json(f"progress/{file}"))
            found.append((session, Heartbeat(**root.read_json(f"heartbeats/{file}"))))
        except (FileNotFoundError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda pair: pair[1].at)
