"""Time-series files of ICU stays: each rule of the discretiser by hand, and all against loops."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest

from dfpl.data.episodes import VARIABLES, EpisodeReader, episode
from dfpl.data.packed import DataError
from dfpl.data.raw import SeriesReader

NAMES = [variable.name for variable in VARIABLES]
READER = EpisodeReader()
CHANNELS = list(READER.channels)
EYE = "Glascow coma scale eye opening"
Rows = list[dict[str, str]]


def write(path: Path, rows: Rows, header: list[str] | None = None) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, header or ["Hours", *NAMES], restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(folder: Path, rows: Rows, hours: float, reader: EpisodeReader = READER) -> np.ndarray:
    path = write(folder / "1_episode1_timeseries.csv", rows)
    return reader.read(Path(episode(path, hours)))


def rates(folder: Path, rows: Rows, hours: float) -> tuple[list[float], list[float]]:
    """Heart rate and its mask in every step."""
    found = read(folder, rows, hours)
    names = ("Heart Rate", "mask: Heart Rate")
    value, mask = (found[:, CHANNELS.index(name)].tolist() for name in names)
    return value, mask


def beats(*pairs: tuple[float, int]) -> Rows:
    return [{"Hours": str(hour), "Heart Rate": str(rate)} for hour, rate in pairs]


def by_loops(rows: Rows, hours: float) -> list[list[float]]:
    """What spec and discretiser say, in the slowest way: each step looks through all rows."""
    last_hour = min(hours, 48)
    steps = int(last_hour + 1 - 1e-6)
    table = []
    for step in range(steps):
        values, masks = [], []
        for variable in VARIABLES:
            shown, measured = variable.normal, 0.0
            for row in rows:
                hour = float(row["Hours"])
                if hour <= -1e-6 or hour > last_hour + 1e-6 or not row.get(variable.name):
                    continue
                if int(hour - 1e-6) <= step:
                    shown = row[variable.name]
                    measured = float(int(hour - 1e-6) == step)
            if variable.levels:
                values += [1.0 if level == shown else 0.0 for level in variable.levels]
            else:
                values.append(float(shown))
            masks.append(measured)
        table.append(values + masks)
    return table


def draw(seed: int) -> tuple[Rows, float]:
    """A stay with hours in order, on edges, before 0 and after its end, and mostly empty cells."""
    rng = np.random.default_rng(seed)
    length = float(rng.uniform(0.2, 60)) if seed % 2 else float(rng.integers(1, 60))
    hours = np.concatenate([rng.uniform(-1, length + 2, 30), rng.integers(0, 50, 10)])
    rows = []
    for hour in sorted(hours.round(3).tolist()):
        row = {"Hours": str(hour)}
        for variable in VARIABLES:
            if rng.random() < 0.2:
                number = str(round(float(rng.normal(100, 30)), 2))
                row[variable.name] = str(rng.choice(variable.levels or [number]))
        rows.append(row)
    return rows, length


@pytest.mark.parametrize("seed", range(20))
def test_a_stay_is_what_slow_loops_say(tmp_path: Path, seed: int) -> None:
    rows, hours = draw(seed)
    expected = np.array(by_loops(rows, hours), dtype=np.float32)
    np.testing.assert_array_equal(read(tmp_path, rows, hours), expected)


def test_it_is_a_reader_of_series_that_travels() -> None:
    assert isinstance(READER, SeriesReader)
    assert pickle.loads(pickle.dumps(EpisodeReader(hours=24))) == EpisodeReader(hours=24)  # noqa: S301


def test_there_are_76_channels_in_the_order_of_the_discretiser() -> None:
    assert len(CHANNELS) == 76
    kinds = list(READER.channels.values())
    assert (kinds.count("number"), kinds.count("flag")) == (12, 47 + 17)
    assert CHANNELS[:5] == [
        "Capillary refill rate = 0.0",
        "Capillary refill rate = 1.0",
        "Diastolic blood pressure",
        "Fraction inspired oxygen",
        f"{EYE} = To Pain",
    ]
    assert CHANNELS[7] == f"{EYE} = 4 Spontaneously"
    assert CHANNELS[58:60] == ["pH", "mask: Capillary refill rate"]
    assert CHANNELS[-1] == "mask: pH"
    assert [variable.width for variable in VARIABLES if variable.levels] == [2, 8, 12, 13, 12]


def test_the_last_value_in_a_step_wins(tmp_path: Path) -> None:
    value, mask = rates(tmp_path, beats((0.1, 60), (0.5, 70), (0.9, 80)), 1.0)
    assert (value, mask) == ([80], [1])


def test_an_empty_cell_does_not_win(tmp_path: Path) -> None:
    rows = [*beats((0.1, 60)), {"Hours": "0.5", "Glucose": "100"}]
    assert rates(tmp_path, rows, 1.0) == ([60], [1])


def test_a_step_without_a_value_repeats_the_one_before(tmp_path: Path) -> None:
    value, mask = rates(tmp_path, beats((1.5, 60), (3.5, 70)), 5.0)
    assert value == [86, 60, 60, 70, 70]  # 86 is the normal value
    assert mask == [0, 1, 0, 1, 0]


def test_an_hour_on_an_edge_belongs_to_the_step_before(tmp_path: Path) -> None:
    assert rates(tmp_path, beats((1.0, 60)), 3.0) == ([60, 60, 60], [1, 0, 0])
    assert rates(tmp_path, beats((1.001, 60)), 3.0) == ([86, 60, 60], [0, 1, 0])
    assert rates(tmp_path, beats((0.0, 60)), 2.0) == ([60, 60], [1, 0])


def test_the_last_hour_of_48_is_in_the_last_step(tmp_path: Path) -> None:
    value, mask = rates(tmp_path, beats((48.0, 60)), 48.0)
    assert (len(value), value[46:], mask[46:]) == (48, [86, 60], [0, 1])


def test_hours_before_the_stay_and_after_its_end_are_left_out(tmp_path: Path) -> None:
    rows = beats((-2.0, 50), (-0.5, 60), (2.6, 70), (50.0, 80))
    assert rates(tmp_path, rows, 2.5) == ([86, 86, 86], [0, 0, 0])
    assert rates(tmp_path, beats((-1e-7, 60)), 1.0) == ([60], [1])


@pytest.mark.parametrize(
    ("hours", "steps"),
    [(0.5, 1), (1.0, 1), (1.01, 2), (47.0, 47), (47.99, 48), (48.0, 48), (300.0, 48), (1e-9, 1)],
)
def test_a_stay_has_a_step_for_each_hour_begun(tmp_path: Path, hours: float, steps: int) -> None:
    assert read(tmp_path, beats((0.2, 60)), hours).shape == (steps, 76)


def test_fewer_hours_are_read_where_fewer_are_asked_for(tmp_path: Path) -> None:
    reader = EpisodeReader(hours=2)
    found = read(tmp_path, beats((0.5, 60), (1.5, 70), (2.5, 80)), 40.0, reader)
    assert reader.steps == 2
    assert found[:, CHANNELS.index("Heart Rate")].tolist() == [60, 70]


def test_a_stay_without_a_measurement_is_normal(tmp_path: Path) -> None:
    found = read(tmp_path, [], 3.0)
    raised = {CHANNELS[place] for place in np.flatnonzero(found[0]) if CHANNELS[place].count("=")}
    assert raised == {
        "Capillary refill rate = 0.0",
        f"{EYE} = 4 Spontaneously",
        "Glascow coma scale motor response = 6 Obeys Commands",
        "Glascow coma scale total = 15",
        "Glascow coma scale verbal response = 5 Oriented",
    }
    numbers = [
        found[2, place] for place, kind in enumerate(READER.channels.values()) if kind == "number"
    ]
    normal = [59, 0.21, 128, 86, 170, 77, 98, 19, 118, 36.6, 81, 7.4]
    np.testing.assert_array_equal(numbers, np.array(normal, dtype=np.float32))
    assert not found[:, 59:].any()


def test_two_spellings_of_a_level_are_two_flags(tmp_path: Path) -> None:
    rows = [{"Hours": "0.5", EYE: "Spontaneously"}, {"Hours": "1.5", EYE: "4 Spontaneously"}]
    found = read(tmp_path, rows, 2.0)
    both = [CHANNELS.index(f"{EYE} = {level}") for level in ("Spontaneously", "4 Spontaneously")]
    assert found[:, both].tolist() == [[1, 0], [0, 1]]


def test_the_level_called_none_is_a_level(tmp_path: Path) -> None:
    found = read(tmp_path, [{"Hours": "0.5", EYE: "None"}], 1.0)
    assert found[0, CHANNELS.index(f"{EYE} = None")] == 1
    assert found[0, CHANNELS.index(f"mask: {EYE}")] == 1


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", beats((0.5, 60)), ["Hours", *NAMES[::-1]])
    assert READER.read(Path(episode(path, 1.0)))[0, CHANNELS.index("Heart Rate")] == 60


def test_every_wrong_cell_is_named_by_line_and_variable_and_none_is_shown(tmp_path: Path) -> None:
    rows = [
        {"Hours": "0.5", "Heart Rate": "sixty", "pH": "7.4"},
        {"Hours": "0.6", "Glascow coma scale motor response": "Waves", "pH": "nan"},
        {"Hours": "0.4", "pH": "7.1"},
        {"Hours": "later"},
    ]
    with pytest.raises(DataError) as caught:
        read(tmp_path, rows, 2.0)
    told = str(caught.value)
    assert "1_episode1_timeseries.csv: line 2: Heart Rate is no finite number; " in told
    assert "line 3: Glascow coma scale motor response is none of its known levels" in told
    assert "'5 Localizes Pain'" in told
    assert "line 3: pH is no finite number" in told
    assert "line 4: Hours is no number, or less than in the line before" in told
    assert "line 5: Hours is no number" in told
    assert not any(cell in told for cell in ("sixty", "Waves", "nan", "7.1", "later"))


def test_many_wrong_cells_are_counted(tmp_path: Path) -> None:
    rows = [{"Hours": "0.5", "pH": "low"} for _ in range(9)]
    with pytest.raises(DataError, match=r"line 6: pH is no finite number and 4 more$"):
        read(tmp_path, rows, 1.0)


@pytest.mark.parametrize("number", ["1e39", "inf", "-inf"])
def test_a_number_that_is_not_finite_in_32_bits_is_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(DataError, match="line 2: Glucose is no finite number"):
        read(tmp_path, [{"Hours": "0.5", "Glucose": number}], 1.0)


def test_a_wrong_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    right = ["Glasgow coma scale total" if name == NAMES[5] else name for name in NAMES]
    for header in (["Hours", *NAMES[1:]], NAMES, ["Hours", *NAMES, "Potassium"], ["Hours", *right]):
        write(path, [], header)
        with pytest.raises(DataError, match=r"a\.csv has a header of .* expected .* 17 variables"):
            READER.read(Path(episode(path, 1.0)))
    path.write_text("")
    with pytest.raises(DataError, match="a header of 0 columns without"):
        READER.read(Path(episode(path, 1.0)))


def test_a_line_with_too_few_cells_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", beats((0.5, 60)))
    path.write_text(path.read_text() + "0.7,60\n")
    with pytest.raises(DataError, match=r"a\.csv: line 3 has 2 cells, the header 18"):
        READER.read(Path(episode(path, 1.0)))


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(DataError, match=r"a\.csv: there is no such file"):
        READER.read(Path(episode(path, 1.0)))
    path.write_bytes(b"Hours\xff\xfe")
    with pytest.raises(DataError, match=r"a\.csv cannot be read as comma-separated UTF-8"):
        READER.read(Path(episode(path, 1.0)))


@pytest.mark.parametrize("entry", ["a.csv", "a.csv#", "a.csv#0", "a.csv#nan", "a.csv#-3", "#3"])
def test_an_entry_without_the_length_of_the_stay_is_refused(entry: str) -> None:
    with pytest.raises(DataError, match="given as <path>#<hours>, hours above 0"):
        READER.read(Path(entry))
