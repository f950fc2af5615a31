"""Why trials failed: reasons in one line, without secrets, alike ones counted together."""

import re
from dataclasses import dataclass, replace

LONGEST = 200
NO_RECORD = "its process ended without a record"
SECRETS = (
    (re.compile(r"(?<=://)[^\s/@]+@"), "***@"),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), "***"),
    (
        re.compile(
            r"(?i)((?:secret|access|api|private)[\w.-]*key[\w.-]*|password|passwd|\w*secret"
            r"|\w*(?:auth|session|security|bearer)[_-]?token|signature)(['\"]?\s*[=:]\s*)[^\s&,]+"
        ),
        r"\1\2***",
    ),
)
NUMBER = re.compile(r"\b\d+(\.\d+)?(e[+-]?\d+)?|\b(nan|inf)\b")


def one_line(text: str) -> str:
    """A reason as it may be shown: in a line, not longer than LONGEST, without secrets."""
    line = " ".join(text.split())
    for pattern, instead in SECRETS:
        line = pattern.sub(instead, line)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Failures that differ at most in their numbers, such as that of the epoch."""

    reason: str
    """That of the trial named here."""
    count: int
    search: str
    trial: int


class Failures:
    """Failures counted by reason; one more costs the same however many there are."""

    def __init__(self) -> None:
        self.found: dict[str, Failure] = {}

    def add(self, failure: Failure) -> None:
        """Count it; the lowest trial of the first search stays the example."""
        kind = NUMBER.sub("#", failure.reason)
        before = self.found.get(kind)
        if before is None:
            self.found[kind] = failure
            return
        first = min(before, failure, key=lambda f: (f.search, f.trial))
        self.found[kind] = replace(first, count=before.count + failure.count)

    def update(self, others: "Failures") -> None:
        for failure in others.found.values():
            self.add(failure)

    def most_frequent_first(self) -> list[Failure]:
        return sorted(self.found.values(), key=lambda f: (-f.count, f.search, f.trial))
