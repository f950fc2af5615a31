"""Small made-up raw samples for the tests of packing, and ways to spoil them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from dfpl.data.raw import PackOptions, RawSamples, nothing_dropped

SMALL = PackOptions(image_size=8)
LENIENT = PackOptions(image_size=8, bad_file="treat_as_missing")
N = 24


def texts(*cells: str | None) -> pd.Series:
    return pd.Series(cells, dtype="str")


def made_up(folder: Path, **changes: Any) -> RawSamples:
    """24 samples in 12 groups of 2, of the classes cat and dog; sample 3 is a picture of grey 3."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{row:02}.png" for row in range(N)]
    for row, path in enumerate(paths):
        if not path.exists():
            Image.new("RGB", (12, 10), (row, row, row)).save(path)
    samples = RawSamples(
        name="pets",
        source="made up",
        id=texts(*(f"s{row:02}" for row in range(N))),
        group=texts(*(f"g{row // 2:02}" for row in range(N))),
        label=texts(*(["cat", "cat", "dog", "dog"] * (N // 4))),
        split=None,
        image=pd.Series(map(str, paths), dtype=object),
        numeric=pd.DataFrame({"weight": np.arange(N, dtype=float), "age": [1.0, np.nan] * 12}),
        category=pd.DataFrame({"colour": texts(*(["red", "blue", None] * (N // 3)))}),
        dropped=nothing_dropped(),
    )
    return replace(samples, **changes)


def changed(cells: pd.Series, changes: dict[int, Any]) -> pd.Series:
    return pd.Series([changes.get(row, cell) for row, cell in enumerate(cells)], dtype=object)


def without_cells(samples: RawSamples, row: int) -> RawSamples:
    numeric, category = samples.numeric.copy(), samples.category.copy()
    numeric.iloc[row], category.iloc[row] = np.nan, np.nan
    return replace(samples, numeric=numeric, category=category)


def path_of(samples: RawSamples, row: int) -> str:
    return str(samples.image.tolist()[row])


def truncate(path: str) -> None:
    """Leave the first half of a picture of noise."""
    Image.effect_noise((64, 64), 80).save(path)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])


def spoil(samples: RawSamples, folder: Path) -> RawSamples:
    """Sample 3 truncated, 4 no image, 5 absent, 6 a folder; sample 6 has no table either."""
    truncate(path_of(samples, 3))
    Path(path_of(samples, 4)).write_text("not a picture")
    Path(path_of(samples, 5)).unlink()
    return without_cells(replace(samples, image=changed(samples.image, {6: str(folder)})), 6)
