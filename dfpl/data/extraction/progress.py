"""How far a long step is: a bar on a terminal, else a line every ten seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 10  # seconds


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told what was done since it was last called, of `total`."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
        return
    start = told = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, told
        done, now = done + count, time.monotonic()
        if now - told >= EVERY:
            told, left = now, (total - done) * (now - start) / max(done, 1)
            print(f"{what}: {done / total:.0%}, {left:.0f} s left", file=sys.stderr)

    yield advance
