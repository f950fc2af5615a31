"""The best configs of a study: chosen on validation alone, exported, and read back."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from samples import make_packed, make_run

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.storage import Storage
from dfpl.study.best import best, export, front, read_export, table
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion

BASE = make_run(make_packed())


def run_of(scenario: str, alpha: float) -> RunConfig:
    return BASE.with_values({"scenario": Scenario.parse(scenario).to_dict(), "method.alpha": alpha})


def add_trial(
    store: RecordStore, search: str, number: int, ended: dict[str, Any], alpha: float = 0.0
) -> None:
    """A suggestion, and records of its scenarios: a value, the name of a state, or None."""
    runs = {name: run_of(name, alpha or 1.0 + number) for name in ended}
    Suggestion(
        number=number,
        search=search,
        point={"method.alpha": 1.0 + number},
        blocks=[f"{name}/0" for name in runs],
        run_ids=[run.run_id for run in runs.values()],
    ).write(store.root)
    for name, end in ended.items():
        if end is not None:
            store.save(record_of(runs[name], search, number, end), [], None)


def record_of(run: RunConfig, search: str, number: int, end: Any) -> Record:
    facts: dict[str, Any] = {"state": "complete", "value": end}
    if isinstance(end, str):
        facts = {"state": end, "reason": end, "value": 0.99 if end == "pruned" else None}
    elif isinstance(end, tuple):
        facts = {"state": "complete", "value": end[0]}
        facts["metrics"] = {"val/accuracy": end[0], "test/scenario/accuracy": end[1]}
        facts["metrics"] |= {"val/accuracy_low": end[0] - 0.1, "val/accuracy_high": end[0] + 0.05}
    return Record(
        run_id=run.run_id,
        study="study",
        search=search,
        trial=number,
        scenario=str(run.scenario),
        config=run.to_dict(),
        data="/data",
        **facts,
    )


def new_store(folder: Path, objective: str = "each", **settings: Any) -> RecordStore:
    store = RecordStore(folder / "study")
    facts = {"base": {"metric": "accuracy"}, "objective": {"kind": objective, **settings}}
    store.root.write_json("study.json", facts)
    return store


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    """both-50: the paper 0.6, a winner 0.8, better test numbers elsewhere; image-30: two runs."""
    store = new_store(tmp_path)
    add_trial(store, "both-50", 0, {"both-50": (0.6, 0.99)})
    add_trial(store, "both-50", 1, {"both-50": (0.8, 0.10)})
    add_trial(store, "both-50", 2, {"both-50": (0.7, 0.95)})
    add_trial(store, "both-50", 3, {"both-50": "pruned"})
    add_trial(store, "both-50", 4, {"both-50": "failed"})
    add_trial(store, "both-50", 5, {"both-50": None})
    add_trial(store, "image-30", 0, {"image-30": "failed"})
    add_trial(store, "image-30", 1, {"image-30": 0.5})
    return store


def shown(store: RecordStore) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    console.print(table(store))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_winner_has_the_best_validation_value_whatever_the_test_says(
    store: RecordStore,
) -> None:
    entry = best(store)[0]
    assert (entry.scenario, entry.record.trial, entry.record.value) == ("both-50", 1, 0.8)
    assert entry.paper is not None
    assert (entry.paper.trial, entry.paper.value) == (0, 0.6)
    assert entry.counts == {"complete": 3, "pruned": 1, "failed": 1, "unfinished": 1}


def test_of_equal_values_the_first_trial_wins(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for number in range(3):
        add_trial(store, "both-50", number, {"both-50": 0.5})
    assert best(store)[0].record.trial == 0


def test_a_run_of_a_sweep_in_the_same_folder_does_not_compete(store: RecordStore) -> None:
    store.save(record_of(run_of("both-50", 9.0), "confirm", 0, 0.95), [], None)
    assert best(store)[0].record.value == 0.8


def test_the_table_shows_the_papers_point_and_the_counts(store: RecordStore) -> None:
    rows = [line for line in shown(store) if "both-50" in line or "image-30" in line]
    cells = [[cell.strip() for cell in row.strip("│┃").split("│")] for row in rows]
    assert cells == [
        ["both-50", "0.8000 [0.700, 0.850]", "1", "0.6000 [0.500, 0.650]", "3", "1", "1"],
        ["image-30", "0.5000", "1", "-", "1", "0", "1"],
    ]


def test_the_export_holds_whole_configs_that_are_read_back(store: RecordStore) -> None:
    facts = store.root.read_json("study.json")
    store.root.write_json("study.json", {**facts, "space": {"method.alpha": [0.01, 10.0, True]}})
    configs = export(store, store.root)
    assert [entry["scenario"] for entry in configs] == ["both-50", "image-30"]
    content = store.root.read_json("best.json")
    assert (content["study"], content["space"]) == ("study", {"method.alpha": [0.01, 10.0, True]})
    run, entry = read_export(Path(store.root.path) / "best.json", "both-50")
    assert run == run_of("both-50", 2.0)
    assert run.run_id == entry["run_id"]
    assert (entry["value"], entry["data"]) == (0.8, "/data")


def test_one_scenario_alone_is_exported(store: RecordStore, tmp_path: Path) -> None:
    export(store, Storage(tmp_path), "one.json", "image-30")
    run, _ = read_export(tmp_path / "one.json")
    assert str(run.scenario) == "image-30"


def test_an_unknown_scenario_is_answered_with_those_there_are(
    store: RecordStore, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="scenario 'both-70'; there are both-50, image-30"):
        export(store, Storage(tmp_path), scenario="both-70")
    assert not (tmp_path / "best.json").exists()


@pytest.mark.parametrize("scenario", ["", "both-70"])
def test_a_file_of_several_scenarios_asks_which(store: RecordStore, scenario: str) -> None:
    export(store, store.root)
    with pytest.raises(ConfigError, match="both-50, image-30; choose one with --scenario"):
        read_export(Path(store.root.path) / "best.json", scenario)


def test_without_a_complete_trial_nothing_is_exported(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    add_trial(store, "both-50", 0, {"both-50": "failed"})
    add_trial(store, "both-50", 1, {"both-50": "pruned"})
    for ask in (best, table, lambda s: export(s, s.root)):
        with pytest.raises(ConfigError, match=r"no trial of .*study is complete"):
            ask(store)
    assert not store.root.exists("best.json")


def test_a_list_of_runs_is_no_search(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.root.write_json("study.json", {"base": BASE.to_dict()})
    store.save(record_of(run_of("both-50", 1.0), "table2", 0, 0.9), [], None)
    for ask in (best, table, lambda s: export(s, s.root)):
        with pytest.raises(ConfigError, match="holds no search but a list of runs"):
            ask(store)


def test_a_robust_winner_is_judged_over_all_its_scenarios(tmp_path: Path) -> None:
    store = new_store(tmp_path, "worst")
    add_trial(store, "worst", 0, {"both-50": 0.9, "image-30": 0.2})
    add_trial(store, "worst", 1, {"both-50": 0.5, "image-30": 0.4})
    add_trial(store, "worst", 2, {"both-50": 0.99, "image-30": None})
    found = best(store)
    assert [(e.scenario, e.record.trial, e.record.value) for e in found] == [
        ("both-50", 1, 0.5),
        ("image-30", 1, 0.4),
    ]
    assert [e.paper.value for e in found if e.paper] == [0.9, 0.2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({4: (0.5,), 2: (0.7,), 3: (0.7,), 0: (0.1,)}, [2]),  # of equals the first
        ({0: (0.9, 0.2), 1: (0.5, 0.6), 2: (0.7, 0.4)}, [0, 1, 2]),
        ({0: (0.9, 0.2), 1: (0.5, 0.6), 2: (0.5, 0.5), 3: (0.4, 0.6)}, [0, 1]),
        ({0: (0.9, 0.2), 1: (0.9, 0.3)}, [1]),
        ({0: (0.8, 0.3), 1: (0.9, 0.3)}, [1]),
        ({5: (0.9, 0.3), 1: (0.9, 0.3), 7: (0.2, 0.9)}, [1, 7]),
        ({0: (0.1, 0.1), 1: (0.9, 0.9)}, [1]),
    ],
)
def test_the_pareto_front_by_hand(
    values: dict[int, tuple[float, ...]], expected: list[int]
) -> None:
    assert front(values) == expected


def test_the_front_is_what_no_other_trial_dominates() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        drawn = (random.integers(0, 6, size=(15, 2)) / 5).tolist()
        values = {number: (first, second) for number, (first, second) in enumerate(drawn)}
        beaten = {
            a
            for a, of_a in values.items()
            for b, of_b in values.items()
            if (of_b[0] >= of_a[0] and of_b[1] >= of_a[1] and of_b != of_a)
            or (of_b == of_a and b < a)
        }
        assert front(values) == sorted(values.keys() - beaten)


def pareto(folder: Path) -> RecordStore:
    """Trials 1 and 2 make the front; 0 is the paper's, 3 was pruned in its second run."""
    store = new_store(folder, "pareto")
    add_trial(store, "pareto", 0, {"both-0": 0.7, "both-50": 0.5, "image-30": 0.4})
    add_trial(store, "pareto", 1, {"both-0": 0.9, "both-50": 0.6, "image-30": 0.3})
    add_trial(store, "pareto", 2, {"both-0": 0.8, "both-50": 0.5, "image-30": 0.6})
    add_trial(store, "pareto", 3, {"both-0": 0.99, "both-50": "pruned"})
    return store


def test_all_of_a_front_is_exported_and_one_is_chosen_by_its_trial(tmp_path: Path) -> None:
    store = pareto(tmp_path)
    found = {entry.record.trial: entry.values for entry in best(store)}
    assert found == {1: (0.9, 0.3), 2: (0.8, 0.5)}
    configs = export(store, store.root)
    assert [(entry["trial"], entry["scenario"]) for entry in configs] == [
        (trial, name) for trial in (1, 2) for name in ("both-0", "both-50", "image-30")
    ]
    assert configs[0]["objective"] == {"pareto": (0.9, 0.3)}
    place = Path(store.root.path) / "best.json"
    run, entry = read_export(place, "image-30", 2)
    assert run == run_of("image-30", 3.0)
    assert (entry["value"], entry["objective"]) == (0.6, {"pareto": [0.8, 0.5]})


@pytest.mark.parametrize(
    ("scenario", "trial"), [("image-30", None), ("image-30", 3), ("", 2), ("", None)]
)
def test_of_a_front_scenario_and_trial_are_asked_for(
    tmp_path: Path, scenario: str, trial: int | None
) -> None:
    store = pareto(tmp_path)
    export(store, store.root)
    with pytest.raises(ConfigError) as refused:
        read_export(Path(store.root.path) / "best.json", scenario, trial)
    assert str(refused.value).endswith(
        "best.json holds the scenarios both-0, both-50, image-30; choose one with --scenario, and "
        "of its trials [1, 2] one with --trial"
    )


def rows_of(store: RecordStore) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("│┃").split("│")]
        for line in shown(store)
        if line.startswith("│")
    ]


def test_the_table_of_one_config_for_all_shows_its_objective_too(tmp_path: Path) -> None:
    store = new_store(tmp_path, "cvar", share=0.5)
    add_trial(store, "cvar", 0, {"both-50": 0.9, "image-30": 0.2, "image-70": 0.3})
    add_trial(store, "cvar", 1, {"both-50": 0.5, "image-30": 0.4, "image-70": 0.3})
    add_trial(store, "cvar", 2, {"both-50": 0.2, "image-30": None, "image-70": None})
    store.drop("cvar-00002", "racing")
    assert rows_of(store) == [
        ["cvar of all", "0.3333", "1", "", "2", "1", "0"],  # (0.3 + 0.4 / 2) / 1.5
        ["both-50", "0.5000", "1", "0.9000", "2", "1", "0"],
        ["image-30", "0.4000", "1", "0.2000", "2", "1", "0"],
        ["image-70", "0.3000", "1", "0.3000", "2", "1", "0"],
    ]


def test_the_table_of_a_front_shows_each_of_its_trials(tmp_path: Path) -> None:
    rows = rows_of(pareto(tmp_path))
    assert [row[:3] for row in rows] == [
        ["pareto of all", "0.9000, 0.3000", "1"],
        ["both-0", "0.9000", "1"],
        ["both-50", "0.6000", "1"],
        ["image-30", "0.3000", "1"],
        ["pareto of all", "0.8000, 0.5000", "2"],
        ["both-0", "0.8000", "2"],
        ["both-50", "0.5000", "2"],
        ["image-30", "0.6000", "2"],
    ]


def test_of_several_seeds_the_mean_decides_and_the_first_is_exported(tmp_path: Path) -> None:
    store = new_store(tmp_path, "each", seeds=2)
    values = {0: (0.6, 0.6), 1: (0.9, 0.2), 2: (0.5, 0.8), 3: (0.99, None)}
    for number, found in values.items():
        runs = [run_of("both-50", 1.0 + number).with_values({"seed": seed}) for seed in (4, 5)]
        Suggestion(
            number=number,
            search="both-50",
            point={},
            blocks=["both-50/4", "both-50/5"],
            run_ids=[run.run_id for run in runs],
        ).write(store.root)
        for run, value in zip(runs, found, strict=True):
            if value is not None:
                store.save(record_of(run, "both-50", number, value), [], None)
    (entry,) = best(store)
    assert (entry.record.trial, entry.record.config["seed"], entry.record.value) == (2, 4, 0.5)
    assert entry.values == pytest.approx((0.65,))
    assert entry.counts == {"complete": 3, "pruned": 0, "failed": 0, "unfinished": 1}
    assert rows_of(store) == [
        ["both-50 of all seeds", "0.6500", "2", "", "3", "0", "0"],
        ["both-50", "0.5000", "2", "0.6000", "3", "0", "0"],
    ]


def spoil(place: Path, path: str, value: Any) -> None:
    """Replace (or, with None, remove) what lies at a dotted path of the first config."""
    exported = json.loads(place.read_text())
    part = exported["configs"][0]
    *parents, name = path.split(".")
    for parent in parents:
        part = part[parent]
    if value is None:
        del part[name]
    else:
        part[name] = value
    place.write_text(json.dumps(exported))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("config.method.alfa", 1.0, r"no field 'method\.alfa'; did you mean 'method\.alpha'\?"),
        ("config.optim.lerning_rate", 1.0, r"did you mean 'optim\.learning_rate'\?"),
        ("config.seeds", 1, r"no field 'seeds'; did you mean 'seed'\?"),
        ("config.method.name", "dfpll", r"no method 'dfpll'; did you mean 'dfpl'\?"),
        ("config.optim.epochs", "many", r"optim\.epochs should .* integer, got 'many'"),
        ("config.method.name", None, r"method\.name is missing"),
        ("config.scenario.rate", 30.0, r"scenario\.rate should .* 1, got 30"),
        ("config", None, "no export of a study.*config"),
        ("config", 3, "no export of a study"),
        ("data", None, "no export of a study.*data"),
        ("scenario", None, "no export of a study.*scenario"),
    ],
)
def test_an_edited_export_is_refused_by_name(
    store: RecordStore, tmp_path: Path, path: str, value: Any, message: str
) -> None:
    export(store, Storage(tmp_path), scenario="both-50")
    spoil(tmp_path / "best.json", path, value)
    with pytest.raises(ConfigError, match=message):
        read_export(tmp_path / "best.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"configs": 3}', '{"configs": [3]}'])
def test_a_spoilt_file_is_no_export(tmp_path: Path, text: str) -> None:
    (tmp_path / "best.json").write_text(text)
    with pytest.raises(ConfigError, match=r"best\.json is no export of a study .*dfpl best"):
        read_export(tmp_path / "best.json")


def test_a_missing_file_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"best\.json is no export of a study .*dfpl best"):
        read_export(tmp_path / "best.json")
