"""What a search saw, from hand-made trials, records and epochs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import make_packed, make_run

from analysis import search
from dfpl.data.scenario import Scenario
from dfpl.fields import Choice, ConfigError, FloatRange, IntRange
from dfpl.study.objective import Block
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion, run_of

BASE = make_run(make_packed())
METRIC = BASE.metric
SPACE = {
    "method.alpha": FloatRange(0.01, 10.0, log=True),
    "method.num_prototypes": IntRange(2, 15),
    "method.encode_missing": Choice(("zeros", "skip")),
}


def new_store(folder: Path, kind: str = "each") -> RecordStore:
    store = RecordStore(folder)
    store.root.write_json("study.json", {"objective": {"kind": kind}, "space": SPACE})
    return store


def point(alpha: float = 1.0, num_prototypes: int = 5, missing: str = "zeros") -> dict[str, Any]:
    return dict(zip(SPACE, (alpha, num_prototypes, missing), strict=True))


def leave(
    store: RecordStore,
    number: int,
    at: dict[str, Any],
    reached: dict[str, Any],
    name: str = "",
    runs: int | None = None,
) -> None:
    """A trial of the blocks `scenario/seed`, of which the first `runs` (default: all) have ended;
    each reached the last of its values by epoch, "pruned" or "failed" behind them if it was."""
    blocks = [Block(Scenario.parse(key.split("/")[0]), int(key.split("/")[1])) for key in reached]
    made = [run_of(BASE, at, block) for block in blocks]
    name = name or str(blocks[0].scenario)
    Suggestion(
        number=number,
        search=name,
        point=at,
        blocks=list(reached),
        run_ids=[run.run_id for run in made],
    ).write(store.root)
    for run, found in list(zip(made, reached.values(), strict=True))[:runs]:
        values = [one for one in found if not isinstance(one, str)]
        state = found[-1] if isinstance(found[-1], str) else "complete"
        top = max(values, default=None)
        ends = {} if top is None else {f"{METRIC}_low": top - 0.1, f"{METRIC}_high": top + 0.1}
        record = Record(
            run_id=run.run_id,
            study="study",
            search=name,
            trial=number,
            scenario=str(run.scenario),
            state=state,
            reason="" if state == "complete" else f"was {state}",
            value=top,
            best_epoch=values.index(top) + 1 if values else 0,
            epochs=len(values),
            seconds=10.0 * len(values),
            config=run.to_dict(),
            metrics={f"val/{key}": value for key, value in ends.items()},
        )
        rows: Any = [{"epoch": k + 1, f"val/{METRIC}": v} for k, v in enumerate(values)]
        store.save(record, rows, None)


@pytest.fixture(scope="module")
def each(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Two searches of one scenario each; and a run of a sweep, which belongs to none."""
    store = new_store(tmp_path_factory.mktemp("each"))
    leave(store, 0, point(), {"both-50/0": [0.3, 0.5, 0.4]})
    leave(store, 1, point(0.1, 3, "skip"), {"both-50/0": [0.2, "pruned"]})
    leave(store, 2, point(10.0), {"both-50/0": ["failed"]})
    leave(store, 3, point(9.0), {"both-50/0": [0.6]}, runs=0)
    leave(store, 0, point(), {"image-30/0": [0.6, 0.7]})
    run = BASE.with_values({"seed": 7})
    facts: dict[str, Any] = {"study": "study", "search": "confirm", "trial": 0, "value": 0.9}
    facts |= {"scenario": "both-50", "state": "complete", "config": run.to_dict()}
    store.save(Record(run_id=run.run_id, **facts), [], None)
    return store


def test_each_run_of_a_trial_is_a_row_and_none_of_a_sweep(each: RecordStore) -> None:
    frame: Any = search.trials(each)
    assert frame["search"].tolist() == ["both-50"] * 3 + ["image-30"]
    assert frame["trial"].tolist() == [0, 1, 2, 0]
    assert frame["state"].tolist() == ["complete", "pruned", "failed", "complete"]
    assert frame["reason"].tolist() == ["", "was pruned", "was failed", ""]
    assert frame["complete"].tolist() == [True, False, False, True]
    assert frame["value"].tolist() == pytest.approx([0.5, 0.2, np.nan, 0.7], nan_ok=True)
    assert frame["low"].tolist() == pytest.approx([0.4, 0.1, np.nan, 0.6], nan_ok=True)
    assert frame["high"].tolist() == pytest.approx([0.6, 0.3, np.nan, 0.8], nan_ok=True)
    assert frame["epochs"].tolist() == [3, 1, 0, 2]
    assert frame["best_epoch"].tolist() == [2, 1, 0, 2]
    assert frame["seconds"].tolist() == [30.0, 10.0, 0.0, 20.0]
    assert frame["method.alpha"].tolist() == [1.0, 0.1, 10.0, 1.0]
    assert frame["method.encode_missing"].tolist() == ["zeros", "skip", "zeros", "zeros"]
    assert each.read(frame["run_id"][1]).trial == 1  # type: ignore[union-attr]


def test_learning_curves_end_where_runs_were_stopped(each: RecordStore) -> None:
    frame: Any = search.learning_curves(each, search.trials(each)["run_id"])
    assert frame["epoch"].tolist() == [1, 2, 3, 1, 1, 2]  # the run that failed has no epoch
    assert frame["value"].tolist() == [0.3, 0.5, 0.4, 0.2, 0.6, 0.7]
    assert frame["stopped_at"].tolist() == pytest.approx(
        [*[np.nan] * 3, 1, *[np.nan] * 2], nan_ok=True
    )
    assert frame["scenario"].tolist() == ["both-50"] * 4 + ["image-30"] * 2
    assert list(search.learning_curves(each, [])) == list(frame)


def test_how_a_trial_of_several_runs_ended(tmp_path: Path) -> None:
    store = new_store(tmp_path, "worst")
    met = {"both-50/0": [0.5], "image-30/0": [0.4]}
    leave(store, 0, point(), met, "worst")
    leave(store, 1, point(2.0), met, "worst", runs=1)
    leave(store, 2, point(3.0), met, "worst", runs=1)
    store.drop("worst-00002", "given up")
    leave(store, 3, point(4.0), {"both-50/0": [0.5], "image-30/0": [0.4, "failed"]}, "worst")
    frame: Any = search.trials(store)
    assert frame["trial"].tolist() == [0, 0, 1, 2, 3, 3]
    assert frame["complete"].tolist() == [True] * 5 + [False]
    ended = ["complete"] * 2 + ["unfinished", "pruned"] + ["failed"] * 2
    assert frame["trial_state"].tolist() == ended


def test_the_front_by_hand(tmp_path: Path) -> None:
    store = new_store(tmp_path, "pareto")
    reached = {  # complete data, both-50 with two seeds, image-30
        0: ([0.9], [0.5], [0.7], [0.8]),
        1: ([0.8], [0.7], [0.7], [0.65]),
        2: ([0.8], [0.6], [0.6], [0.9]),
        3: ([0.95], [0.9], [0.9], [0.9, "pruned"]),
    }
    names = ("both-0/0", "both-50/0", "both-50/1", "image-30/0")
    for number, values in reached.items():
        at = point(float(number + 1))
        leave(store, number, at, dict(zip(names, values, strict=True)), "pareto")
    frame: Any = search.front(search.trials(store), store)
    assert frame["trial"].tolist() == [0, 1, 2] and set(frame["axis"]) == {"complete data"}
    assert frame["first"].tolist() == pytest.approx([0.9, 0.8, 0.8])
    assert frame["worst"].tolist() == pytest.approx([0.6, 0.65, 0.6])
    assert frame["worst_scenario"].tolist() == ["both-50", "image-30", "both-50"]
    assert frame["on_front"].tolist() == [True, True, False]
    assert frame["first_low"].tolist() == pytest.approx([0.8, 0.7, 0.7])
    assert frame["worst_high"].tolist() == pytest.approx([0.7, 0.75, 0.7])
    assert frame["method.alpha"].tolist() == [1.0, 2.0, 3.0]


def test_a_front_needs_two_configs_that_met_all_scenarios(each: RecordStore) -> None:
    with pytest.raises(ConfigError, match=r"1 config\(s\) ran .* all of both-50, image-30; .* two"):
        search.front(search.trials(each), each)


def test_a_config_of_two_searches_is_one(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for number, (alpha, here, there) in enumerate([(1.0, 0.5, 0.9), (2.0, 0.6, 0.7)]):
        leave(store, number, point(alpha), {"both-50/0": [here]})
        leave(store, 1 - number, point(alpha), {"image-30/0": [there]})
    frame: Any = search.front(search.trials(store), store)
    assert set(frame["axis"]) == {"mean of 2 scenarios"}
    assert set(frame["search"]) == {"both-50"} and frame["trial"].tolist() == [0, 1]
    assert frame["first"].tolist() == pytest.approx([0.7, 0.65])
    assert frame["worst"].tolist() == pytest.approx([0.5, 0.6])
    assert frame["on_front"].all()


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no search in"):
        search.trials(RecordStore(tmp_path))
    with pytest.raises(ConfigError, match=r"no run of a search in .* has ended"):
        search.trials(new_store(tmp_path))
