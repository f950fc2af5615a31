"""Suggestions as files, the runs they name, and when a trial has ended."""

from pathlib import Path
from typing import Any

import pytest
from samples import make_packed, make_run

from dfpl.data.scenario import parse_scenarios
from dfpl.storage import Storage
from dfpl.study.objective import Block, Met, Objective, Outcome
from dfpl.study.records import Record, RecordStore, State
from dfpl.study.suggestion import Suggestion, ended, run_of

BASE = make_run(make_packed())
MEAN = Objective(kind="mean")
THREE = [Block(scenario, 7) for scenario in parse_scenarios("image-70,both-30,both-50")]
POINT = {"method.alpha": 0.25}


def suggestion(number: int = 3, search: str = "mean", count: int = 3) -> Suggestion:
    runs = [run_of(BASE, POINT, block) for block in THREE[:count]]
    return Suggestion(
        number=number,
        search=search,
        point=POINT,
        blocks=[block.name for block in THREE[:count]],
        run_ids=[run.run_id for run in runs],
        suggested_at=12.5,
        origin="prior",
        attributes={"generation": 2},
    )


def leave(store: RecordStore, at: int, value: float | None, state: State = "complete") -> Record:
    """The record of a run of the suggestion: 4 epochs, or 1 where it was pruned."""
    run = run_of(BASE, POINT, THREE[at])
    record = Record(
        run_id=run.run_id,
        study="s",
        search="mean",
        trial=3,
        scenario=str(run.scenario),
        state=state,
        value=value,
        reason="" if state == "complete" else f"{state} here",
        epochs=1 if state == "pruned" else 4,
        config=run.to_dict(),
    )
    store.save(record, [], None)
    return record


def test_the_run_of_a_point_in_a_block() -> None:
    run = run_of(BASE, POINT, THREE[0])
    assert (str(run.scenario), run.seed) == ("image-70", 7)
    changed = {"method.alpha": 0.25, "scenario": run.scenario.to_dict(), "seed": 7}
    assert run == BASE.with_values(changed)


def test_a_suggestion_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = suggestion()
    written.write(Storage(tmp_path))
    assert written.name == "mean-00003"
    assert (tmp_path / "suggestions/mean-00003.json").is_file()
    assert Suggestion.read(Storage(tmp_path), "mean", 3) == written


def test_all_are_read_by_search_and_number_without_torn_ones(tmp_path: Path) -> None:
    root = Storage(tmp_path)
    for search, number in (("mean", 12), ("both-50", 2), ("mean", 3), ("both-50", 11)):
        suggestion(number, search).write(root)
    root.write("suggestions/mean-00004.json", b'{"number": 4, "sea')
    root.write("suggestions/mean-00005.json", b"[1, 2]")
    root.write("suggestions/mean-00006.json", b'{"number": 6}')
    found = [(one.search, one.number) for one in Suggestion.read_all(root)]
    assert found == [("both-50", 2), ("both-50", 11), ("mean", 3), ("mean", 12)]
    assert list(Suggestion.read_all(Storage(tmp_path / "nowhere"))) == []


@pytest.mark.parametrize(
    ("left", "dropped", "expected", "met"),
    [
        ([], "", None, []),
        ([0.9], "", None, []),
        ([0.9, 0.5], "", None, []),
        ([0.9, 0.5, 0.4], "", Outcome("complete", (0.6,), 12), [0.9, 0.5, 0.4]),
        ([0.9, "pruned"], "", Outcome("pruned", (0.55,), 5, "pruned here"), [0.9]),
        (["pruned"], "", Outcome("pruned", (0.2,), 1, "pruned here"), []),
        ([0.9, "failed"], "", Outcome("failed", (), 8, "failed here"), [0.9]),
        ([0.9, 0.5], "racing", Outcome("pruned", (0.7,), 8, "racing"), [0.9, 0.5]),
        ([0.9, 0.5, 0.4], "racing", Outcome("complete", (0.6,), 12), [0.9, 0.5, 0.4]),
        ([], "racing", None, []),
    ],
)
def test_how_a_trial_of_three_runs_ended(
    tmp_path: Path, left: list[Any], dropped: str, expected: Outcome | None, met: list[float]
) -> None:
    store = RecordStore(tmp_path)
    for at, end in enumerate(left):
        state: Any = end if isinstance(end, str) else "complete"
        leave(store, at, {"pruned": 0.2, "failed": None}.get(str(end), end), state)
    if dropped:
        store.drop("mean-00003", dropped)
    found = ended(suggestion(), MEAN, store)
    if found is None or expected is None:
        assert found is expected
        return
    assert found.outcome._replace(values=()) == expected._replace(values=())
    assert found.outcome.values == pytest.approx(expected.values)
    assert found.met == [Met(b.name, v) for b, v in zip(THREE, met, strict=False)]
    assert [record.value for record in found.records] == met


def test_records_after_a_gap_do_not_count(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    leave(store, 0, 0.9)
    leave(store, 2, 0.4)
    assert ended(suggestion(), MEAN, store) is None
    store.drop("mean-00003", "racing")
    found = ended(suggestion(), MEAN, store)
    assert found is not None and found.outcome == Outcome("pruned", (0.9,), 4, "racing")


def test_a_trial_of_one_run_is_never_dropped_by_the_race(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.drop("mean-00003", "racing")
    leave(store, 0, 0.9)
    found = ended(suggestion(count=1), MEAN, store)
    assert found is not None and found.outcome == Outcome("complete", (0.9,), 4)
