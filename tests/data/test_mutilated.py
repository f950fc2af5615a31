"""Mutilated raw data: whatever the files hold, they are packed well or refused with a reason.

For any table, pictures and options: `check` returns a report or raises DataError or ConfigError,
`pack` gives a data set without problems or raises one of the two, no other exception ever leaves
them, and no message is empty. `check` finds a problem if and only if `pack` refuses; where there
are more than the 20 pictures that `check` decodes, a problem that it tells still makes `pack`
refuse.
"""

import csv
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dfpl.data.packed import DataError, PackedDataset
from dfpl.data.raw import PackOptions, Report
from dfpl.data.sources import dvm, table
from dfpl.data.sources._dvm_tables import TABLES
from dfpl.data.twins.dvm import Options as TwinOptions
from dfpl.data.twins.dvm import write as write_dvm
from dfpl.fields import ConfigError

Rows = list[list[str]]
PROBED = 20
HEADER = ["id", "image", "patient", "label", "part", "age", "dose", "site"]
ODD = [
    *("", "NA", "nan", "inf", "-Infinity", "1e999", "-1e300", "1e39", "0", "1", "1.0", "-0", "1,5"),
    *("1_000", "0x10", "٣", "½", "<5", "text", "ä中文", "\u202e", "\ufeff", "\u2028", "🚗", "'"),
    *(
        "\x00",
        "\x1b[31m",
        "\x7f",
        "\r",
        "\n",
        "a\nb",
        "\t",
        '"',
        '""',
        "a,b",
        "a;b",
        "a$$b",
        "$$$$",
    ),
    *("x" * 300, "/", ".", "..", "pictures", "pictures/corrupt.png", "pictures/empty.png", "~"),
    *("pictures/text.png", "pictures/gone.png", "pictures/00.png", "train", "VAL", "test", "dev"),
    *("True", "=1+1", "2019", "2_1", "2_1$$13", "2.0L", "label", "id", " ", " padded "),
]
CELLS = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
)


class Damage(NamedTuple):
    """One mutilation of the cells, or of the bytes; `a` and `b` say where, `text` with what."""

    how: str
    a: int
    b: int
    text: str


def on_cells(rows: Rows, damage: Damage) -> Rows:
    """The table with one damage done to it; a table without a cell is left alone."""
    _, a, b, text = damage
    if not rows or not all(rows):
        return rows
    width, row, column = len(rows[0]), 1 + a % max(len(rows) - 1, 1), b % len(rows[0])
    other = a % width
    keep = [c for c in range(width) if c != column]
    match damage.how:
        case "empty a cell" | "write a cell":
            mine = rows[row % len(rows)]
            mine[column % len(mine)] = text if damage.how == "write a cell" else ""
        case "empty a column":
            return [rows[0], *([*r[:column], "", *r[column + 1 :]] for r in rows[1:])]
        case "fill a column":
            return [rows[0], *([*r[:column], text, *r[column + 1 :]] for r in rows[1:])]
        case "delete a column":
            return [[r[c] for c in keep if c < len(r)] for r in rows]
        case "repeat a column":
            return [[*r, r[column % len(r)]] for r in rows]
        case "swap columns":
            for r in rows[1:]:
                if max(column, other) < len(r):
                    r[column], r[other] = r[other], r[column]
        case "rename a column":
            rows[0][column] = text
        case "copy a column":
            for r in rows[1:]:
                if max(column, other) < len(r):
                    r[column] = r[other]
        case "lengthen a row":
            rows[row % len(rows)].append(text)
        case "lengthen all rows":
            return [rows[0], *([*r, text] for r in rows[1:])]
        case "shorten a row":
            rows[row % len(rows)].pop()
        case "repeat rows":
            return [*rows, *(list(r) for r in rows[1 : 2 + b % 30])]
        case "delete rows":
            return [rows[0], *rows[1 + a % len(rows) :]]
        case "header only":
            return rows[:1]
        case "no header":
            return rows[1:]
    return rows


def on_bytes(data: bytes, damage: Damage) -> bytes:
    _, a, b, text = damage
    at = (100 * a + b) % max(len(data), 1)
    match damage.how:
        case "byte order mark":
            return b"\xef\xbb\xbf" + data
        case "CRLF":
            return data.replace(b"\n", b"\r\n")
        case "CR":
            return data.replace(b"\n", b"\r")
        case "other separator":
            return data.replace(b",", b";|\t:"[a % 4 : a % 4 + 1])
        case "UTF-16":
            return data.decode(errors="replace").encode("utf-16")
        case "cut":
            return data[:at]
        case "quote":
            return data[:at] + b'"' + data[at:]
        case "insert text":
            return data[:at] + text.encode() + data[at:]
        case "garbage":
            return data[:at] + random.Random(a).randbytes(1 + b) + data[at:]
        case "garbage alone":
            return random.Random(a).randbytes(40 * b)
        case "empty file":
            return b""
    return data


OF_CELLS = [
    *("empty a cell", "write a cell", "empty a column", "fill a column", "delete a column"),
    *("repeat a column", "swap columns", "rename a column", "copy a column", "lengthen a row"),
    *("lengthen all rows", "shorten a row", "repeat rows", "delete rows", "header only"),
    *("no header", *["write a cell"] * 6),
]
OF_BYTES = [
    *("byte order mark", "CRLF", "CR", "other separator", "UTF-16", "cut", "quote", "insert text"),
    *("garbage", "garbage alone", "empty file"),
]
PLACES = st.integers(0, 99)


def damages(how: list[str], most: int) -> st.SearchStrategy[list[Damage]]:
    one = st.builds(Damage, st.sampled_from(how), PLACES, PLACES, CELLS)
    return st.lists(one, max_size=most)


CELL_DAMAGES, BYTE_DAMAGES = damages(OF_CELLS, 3), damages(OF_BYTES, 1)


def mutilated(rows: Rows, of_cells: list[Damage], of_bytes: list[Damage]) -> bytes:
    rows = [list(row) for row in rows]
    for damage in of_cells:
        rows = on_cells(rows, damage)
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    data = stream.getvalue().encode()
    for damage in of_bytes:
        data = on_bytes(data, damage)
    return data


def refusal(act: Callable[[], Any]) -> str | None:
    """The message with which `act` refuses its data; None where it accepts it."""
    try:
        act()
    except (DataError, ConfigError) as error:
        assert str(error).strip()
        return str(error)
    return None


def hold_together(source: ModuleType, raw: Path, options: PackOptions) -> None:
    """Assert what the head of this file says of `check` and `pack` on these raw data."""
    reports: list[Report] = []
    told = refusal(lambda: reports.append(source.check(raw, options)))
    problems = reports[0].problems if reports else [told]
    assert all(isinstance(text, str) and text.strip() for text in problems)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "packed"
        refused = refusal(lambda: source.pack(raw, out, options, workers=1))
        if problems:
            assert refused, f"check tells {problems}, and yet it was packed"
        if refused:
            assert not out.exists()
            assert problems or not checked_whole(reports[0]), f"not told: {refused}"
        else:
            assert PackedDataset.load(out).problems() == []


def checked_whole(report: Report) -> bool:
    pictures = dict((what, found) for what, found, _ in report.counts)["with image"]
    assert isinstance(pictures, int)
    return pictures <= PROBED


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 18 pictures, and files that are none."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "pictures").mkdir()
    for number in range(18):
        Image.new("L", (9, 9), number).save(folder / "pictures" / f"{number:02}.png")
    whole = (folder / "pictures" / "00.png").read_bytes()
    (folder / "pictures" / "corrupt.png").write_bytes(whole[: len(whole) // 2])
    (folder / "pictures" / "empty.png").write_bytes(b"")
    (folder / "pictures" / "text.png").write_text("no picture")
    return folder


def film_rows() -> Rows:
    parts = ["train"] * 10 + ["val"] * 4 + ["test"] * 4
    rows = [
        [f"i{n:02}", f"pictures/{n:02}.png", f"p{n // 2}", "ill" if n % 2 else "well", part]
        for n, part in enumerate(parts)
    ]
    for n, row in enumerate(rows):
        row += [str(40.5 + n), "" if n % 5 == 4 else str(n * n % 13), "abc"[n % 3]]
    return [HEADER, *rows]


NAMES = st.sampled_from(["", "dose", "age,dose", " site ", "gone", *HEADER])
TABLE_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "group": st.sampled_from(["patient", "id", "label"]),
        "split": st.just("part"),
        "id": st.sampled_from(["id", "patient"]),
        "label": st.sampled_from(["label", "label", "site", "dose"]),
        "numeric": NAMES,
        "category": NAMES,
        "exclude": NAMES,
        "bad_file": st.sampled_from(["error", "treat_as_missing"]),
        "infinite": st.sampled_from(["error", "limit"]),
        "val": st.sampled_from([0.1, 0.3]),
        "split_seed": st.integers(0, 3),
    },
)
QUICK = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_the_undamaged_tables_are_packed(films: Path, cars: Path) -> None:
    (films / "films.csv").write_bytes(mutilated(film_rows(), [], []))
    chosen = table.Options.from_dict({"image_size": 8, "group": "patient"})
    assert table.check(films / "films.csv", chosen).problems == []
    assert dvm.check(cars, CAR_OPTIONS).problems == []


@settings(QUICK, max_examples=90)
@given(CELL_DAMAGES, BYTE_DAMAGES, TABLE_OPTIONS)
def test_a_mutilated_table_is_packed_well_or_refused(
    films: Path, of_cells: list[Damage], of_bytes: list[Damage], chosen: dict[str, Any]
) -> None:
    raw = films / "films.csv"
    raw.write_bytes(mutilated(film_rows(), of_cells, of_bytes))
    options = table.Options.from_dict({"image_size": 8, **chosen})
    hold_together(table, raw, options)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".png", "a\x00b.png", "pictures", "~"])
@pytest.mark.parametrize("how", ["write a cell", "fill a column"])
def test_a_name_that_no_picture_has_is_refused(films: Path, how: str, name: str) -> None:
    raw = films / "films.csv"
    raw.write_bytes(mutilated(film_rows(), [Damage(how, 3, HEADER.index("image"), name)], []))
    hold_together(table, raw, table.Options(image_size=8))
    hold_together(table, raw, table.Options(image_size=8, bad_file="treat_as_missing"))


CAR_OPTIONS = dvm.Options(min_adverts=10, image_size=8, stratify="by_model")


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cars")
    write_dvm(root, TwinOptions(models=6, adverts=18, pixels=16))
    return root


@settings(QUICK, max_examples=20)
@given(
    st.sampled_from(sorted(TABLES)),
    CELL_DAMAGES,
    BYTE_DAMAGES,
    st.sampled_from(["all", "10%"]),
    st.booleans(),
)
def test_mutilated_tables_of_cars_are_packed_well_or_refused(
    cars: Path,
    name: str,
    of_cells: list[Damage],
    of_bytes: list[Damage],
    share: str,
    mend: bool,
) -> None:
    path = cars / "tables_V2.0" / name
    whole = path.read_bytes()
    rows = list(csv.reader(io.StringIO(whole.decode(), newline="")))
    chosen = {"train_share": share, "bad_file": "treat_as_missing" if mend else "error"}
    try:
        path.write_bytes(mutilated(rows, of_cells, of_bytes))
        hold_together(dvm, cars, CAR_OPTIONS.with_values(chosen))
    finally:
        path.write_bytes(whole)
