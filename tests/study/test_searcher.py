"""What the searcher suggests, and what it tells Optuna, from records alone: no Ray is running."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher
from samples import make_packed, make_run

from dfpl.data.scenario import Scenario
from dfpl.model import SEARCH_SPACE
from dfpl.study.objective import Outcome, outcome
from dfpl.study.records import Record, RecordStore, State
from dfpl.study.searcher import OptunaSearcher

SCENARIOS = [Scenario.parse("both-50"), Scenario.parse("image-30")]


def make_searcher(root: Path, **values: Any) -> OptunaSearcher:
    base = make_run(make_packed(), method__num_prototypes=5)
    settings = {"objective": "each", "scenarios": SCENARIOS, "trials": 4, **values}
    return OptunaSearcher(base=base, space=SEARCH_SPACE, store=RecordStore(root), **settings)


def finish(
    searcher: OptunaSearcher, config: dict[str, Any], state: State, value: float | None
) -> None:
    """Leave the records that the runs of a trial would leave."""
    point = {name: v for name, v in config.items() if name.startswith("method.")}
    for run in searcher.runs(config["search"], point):
        record = Record(
            run_id=run.run_id,
            study="study",
            search=config["search"],
            trial=config["trial"],
            scenario=str(run.scenario),
            state=state,
            value=value,
            epochs=2,
            reason="" if state == "complete" else "because",
        )
        searcher.store.save(record, [], None)


def ask(searcher: OptunaSearcher, trial_id: str) -> dict[str, Any]:
    config = searcher.suggest(trial_id)
    assert isinstance(config, dict)
    return config


def test_the_papers_point_comes_first_in_every_search(tmp_path: Path) -> None:
    searcher = make_searcher(tmp_path)
    first = [ask(searcher, "a"), ask(searcher, "b")]
    assert [c["search"] for c in first] == ["both-50", "image-30"]
    for config in first:
        assert config["trial"] == 0
        assert config["method.alpha"] == 1.0
        assert config["method.num_prototypes"] == 5


def test_searches_take_turns_until_each_has_its_trials(tmp_path: Path) -> None:
    searcher = make_searcher(tmp_path)
    turns = [(c["search"], c["trial"]) for c in (ask(searcher, str(n)) for n in range(8))]
    assert turns == [(str(s), number) for number in range(4) for s in SCENARIOS]
    assert searcher.suggest("late") == Searcher.FINISHED


def test_optuna_is_told_what_happened(tmp_path: Path) -> None:
    searcher = make_searcher(tmp_path, scenarios=SCENARIOS[:1])
    told: list[tuple[State | None, float | None]] = [
        ("complete", 0.7),
        ("pruned", 0.2),
        ("failed", None),
        (None, None),
    ]
    for number, (state, value) in enumerate(told):
        config = ask(searcher, str(number))
        searcher.on_trial_result(str(number), {"value": 0.1, "step": 1})
        if state is not None:
            finish(searcher, config, state, value)
        searcher.on_trial_complete(str(number), error=state is None)
    trials = searcher.searches["both-50"].study.trials
    assert [t.state for t in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
    ]
    assert trials[0].value == 0.7
    assert trials[1].intermediate_values == {1: 0.1}
    assert trials[2].user_attrs["reason"] == "because"
    assert "without a record" in trials[3].user_attrs["reason"]
    dead = [r for r in searcher.store.read_all() if "without a record" in r.reason]
    assert [(r.state, r.trial) for r in dead] == [("failed", 3)]


def test_a_new_session_runs_what_was_left_first_and_loses_no_point(tmp_path: Path) -> None:
    before = make_searcher(tmp_path, scenarios=SCENARIOS[:1])
    configs = [ask(before, str(n)) for n in range(3)]
    finish(before, configs[0], "complete", 0.5)
    finish(before, configs[2], "pruned", 0.3)
    after = make_searcher(tmp_path, scenarios=SCENARIOS[:1])
    study = after.searches["both-50"].study
    assert sorted(t.state.name for t in study.trials) == ["COMPLETE", "PRUNED"]
    resumed = [ask(after, str(n)) for n in range(4)]
    assert resumed[0] == configs[1]
    assert resumed[1:3] == [configs[0], configs[2]]
    assert resumed[3]["trial"] == 3
    for n, config in ((1, resumed[1]), (2, resumed[2])):
        after.on_trial_complete(str(n), {"value": 0.0})
        assert after.finished(after_suggestion(after, config)) is not None
    assert sum(t.state.is_finished() for t in study.trials) == 2


def after_suggestion(searcher: OptunaSearcher, config: dict[str, Any]) -> Any:
    from dfpl.study.searcher import Suggestion

    name = f"suggestions/{config['search']}-{config['trial']:05d}.json"
    return Suggestion(**searcher.store.root.read_json(name))


def test_an_interruption_does_not_change_what_comes_next(tmp_path: Path) -> None:
    def session(root: Path, stops: set[int]) -> list[dict[str, Any]]:
        searcher, found = make_searcher(root, scenarios=SCENARIOS[:1], trials=6), []
        for number in range(6):
            if number in stops:
                searcher = make_searcher(root, scenarios=SCENARIOS[:1], trials=6)
                for earlier in range(number):
                    searcher.on_trial_complete(ask_id(searcher, f"again{earlier}"))
            config = ask(searcher, str(number))
            finish(searcher, config, "complete", config["method.delta"])
            searcher.on_trial_complete(str(number))
            found.append(config)
        return found

    def ask_id(searcher: OptunaSearcher, trial_id: str) -> str:
        ask(searcher, trial_id)
        return trial_id

    assert session(tmp_path / "a", set()) == session(tmp_path / "b", {2, 4})


def test_a_robust_trial_meets_all_scenarios(tmp_path: Path) -> None:
    searcher = make_searcher(tmp_path, objective="worst")
    config = ask(searcher, "a")
    assert config["search"] == "worst"
    runs = searcher.runs("worst", {n: v for n, v in config.items() if n.startswith("method.")})
    assert [str(run.scenario) for run in runs] == ["both-50", "image-30"]


RECORD = Record(
    run_id="r", study="s", search="worst", trial=1, scenario="both-50", state="complete", value=0.6
)


@pytest.mark.parametrize(
    ("objective", "records", "expected"),
    [
        ("worst", [RECORD, replace(RECORD, value=0.4)], Outcome("complete", 0.4, 0)),
        ("mean", [RECORD, replace(RECORD, value=0.4)], Outcome("complete", 0.5, 0)),
        ("mean", [RECORD, None], None),
        (
            "mean",
            [replace(RECORD, state="pruned", epochs=3, reason="x"), None],
            Outcome("pruned", 0.6, 3, "x"),
        ),
        (
            "worst",
            [RECORD, replace(RECORD, state="failed", value=None, reason="y")],
            Outcome("failed", None, 0, "y"),
        ),
    ],
)
def test_how_a_trial_ended(objective: Any, records: Any, expected: Outcome | None) -> None:
    found = outcome(objective, records)
    assert found == expected
