"""Look-alike raw data: the literal on-disk format of a real data set, drawn from known factors.

So everything runs without access to the real one, and what "shared" and "specific" should find is
known. A twin, one file each, defines `VERSION` (raise it when the same options give other files),
`Options(TwinOptions)` and `write(out, options)`, which draws under `begun`. Beside the raw files it
writes `factors.csv`, which no source reads: the id of each sample as it is packed, then numeric
columns whose names begin with `shared`, `image_only` or `table_only`.
"""

import csv
import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from dfpl.fields import Config, ConfigError, unknown_name

MARKER = "twin.json"
Row = dict[str, Any]


class TwinOptions(Config):
    """What every look-alike can be told."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything that is drawn."""


def names() -> list[str]:
    """The data sets that have a look-alike: every file here, but for parts of one, whose names
    begin with an underscore. None of them is imported."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def load(name: str) -> ModuleType:
    """Import a twin's module. Raises ConfigError with the nearest name if there is none."""
    if name not in names():
        raise ConfigError(unknown_name(name, names()).replace("field", "look-alike", 1))
    return importlib.import_module(f"{__name__}.{name}")


@contextmanager
def begun(out: Path, options: TwinOptions, version: int) -> Iterator[bool]:
    """Yield whether the twin is yet to be written to `out`; mark it as whole afterwards.

    Raises ConfigError where `out` holds anything but this twin, whole or begun.
    """
    marker = json.dumps({"version": version, **options.to_dict()}, indent=1)
    if _is_finished(out, marker):
        yield False
        return
    out.mkdir(parents=True, exist_ok=True)
    part = out / f"{MARKER}.part"
    part.write_text(marker)
    yield True
    part.replace(out / MARKER)


def _is_finished(out: Path, text: str) -> bool:
    marker = out / MARKER
    if marker.is_file():
        if marker.read_text() == text:
            return True
        raise ConfigError(
            f"{out} holds a twin with other options ({marker}: {json.loads(marker.read_text())}); "
            "choose another folder or delete this one"
        )
    begun = (out / f"{MARKER}.part").is_file()
    if out.exists() and not begun and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out} holds files that no twin wrote, and they are left alone; choose another folder"
        )
    return False


def write_csv(path: Path, columns: list[str], rows: Iterable[Row]) -> None:
    """Write a table, with these headers to the letter; a row's other keys are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
