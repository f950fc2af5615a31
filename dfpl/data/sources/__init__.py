"""The sources of data, one file each, and the file system as their registry.

A source module defines `Options(PackOptions)`, `read(raw, options) -> RawSamples` (DataError for
what cannot be read at all), `check(raw, options) -> Report` and
`pack(raw, out, options, workers) -> PackedDataset`.
"""

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

from dfpl.fields import ConfigError, unknown_name


def names() -> list[str]:
    """The sources there are: every file here that defines `read`. None of them is imported."""
    return [
        module.name
        for module in pkgutil.iter_modules(__path__)
        if not module.ispkg and re.search(r"^def read\(", _text(module.name), re.MULTILINE)
    ]


def load(name: str) -> ModuleType:
    """Import a source's module. Raises ConfigError with the nearest name if there is none."""
    if name not in names():
        raise ConfigError(unknown_name(name, names()).replace("field", "source", 1))
    return importlib.import_module(f"{__name__}.{name}")


def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
