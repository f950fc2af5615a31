"""The searcher without a cluster: what it suggests, what it tells Optuna, and how it goes on."""

import math
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher
from samples import make_packed, make_run

from dfpl.data.scenario import parse_scenarios
from dfpl.fields import ConfigError, FloatRange, IntRange
from dfpl.study.objective import Kind, Objective
from dfpl.study.records import Record, RecordStore
from dfpl.study.searcher import OptunaSearcher, Strategy
from dfpl.study.view import View

SPACE = {
    "method.alpha": FloatRange(0.01, 10.0, log=True),
    "method.delta": FloatRange(0.0, 0.5),
    "method.num_prototypes": IntRange(2, 15),
}
BASE = make_run(make_packed(), method__num_prototypes=5, optim__epochs=4)
PAPER = {"method.alpha": 1.0, "method.delta": 0.2, "method.num_prototypes": 5}
DIED = "its process ended without a record"
Config = dict[str, Any]
ALONE = Strategy(transfer=0, prior_weight=0.0)
"""Searches side by side, each with the sampler alone."""


def searcher_of(
    folder: Path,
    scenarios: str = "both-50",
    objective: Kind = "each",
    trials: int = 4,
    seed: int = 0,
    strategy: Strategy = ALONE,
    view: View | None = None,
) -> OptunaSearcher:
    """The searcher of a session: built anew, it has only what lies in the folder."""
    return OptunaSearcher(
        base=BASE.with_values({"seed": seed}),
        space=SPACE,
        objective=Objective(kind=objective),
        scenarios=parse_scenarios(scenarios),
        trials=trials,
        store=RecordStore(folder / "study"),
        strategy=strategy,
        view=view,
    )


def suggest(searcher: OptunaSearcher, trial_id: str) -> Config:
    config = searcher.suggest(trial_id)
    assert isinstance(config, dict)
    return config


def point_of(config: Config) -> Config:
    return {name: value for name, value in config.items() if name in SPACE}


def quality(config: Config) -> float:
    """A made-up validation value, best at alpha 0.1, delta 0.3 and 9 prototypes."""
    return (
        0.9
        - abs(math.log10(config["method.alpha"]) + 1) / 10
        - abs(config["method.delta"] - 0.3)
        - abs(config["method.num_prototypes"] - 9) / 50
    )


def record(searcher: OptunaSearcher, config: Config, at: int, **values: Any) -> None:
    """What the run of a trial in its scenario number `at` writes."""
    run = searcher.runs(config["search"], point_of(config))[at]
    facts: Config = {"state": "complete", "value": quality(config), "epochs": 4}
    facts |= {"run_id": run.run_id, "study": "study", "search": config["search"]}
    facts |= {"trial": config["trial"], "scenario": str(run.scenario)}
    facts["config"] = {"seed": run.seed}
    searcher.store.save(Record(**{**facts, **values}), [], None)


def report(searcher: OptunaSearcher, trial_id: str, *values: float) -> None:
    for step, value in enumerate(values, start=1):
        searcher.on_trial_result(trial_id, {"step": step, "so_far": value})


def finish(searcher: OptunaSearcher, trial_id: str, config: Config) -> None:
    """Play a trial to its end; every fifth is pruned after an epoch, every seventh fails."""
    if config["trial"] % 5 == 4:
        report(searcher, trial_id, quality(config))
        record(searcher, config, 0, state="pruned", reason="ASHA", epochs=1)
    elif config["trial"] % 7 == 6:
        record(searcher, config, 0, state="failed", reason="NaN", value=None, epochs=0)
    else:
        report(searcher, trial_id, *[quality(config)] * 4)
        record(searcher, config, 0)
    searcher.on_trial_complete(trial_id, {"value": quality(config)})


def told(searcher: OptunaSearcher, search: str = "both-50") -> list[FrozenTrial]:
    return searcher.searches[search].study.get_trials()


def test_the_papers_point_is_trial_0_of_each_search(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, "both-50,image-30")
    first = [suggest(searcher, name) for name in "ab"]
    assert first == [
        {"search": "both-50", "trial": 0, **PAPER},
        {"search": "image-30", "trial": 0, **PAPER},
    ]


def test_searches_take_turns_until_each_has_its_trials(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, "both-50,image-30,tabular-70", trials=2)
    configs = [suggest(searcher, str(i)) for i in range(6)]
    names = ["both-50", "image-30", "tabular-70"]
    assert [(c["search"], c["trial"]) for c in configs] == [(s, n) for n in (0, 1) for s in names]
    assert searcher.suggest("6") == Searcher.FINISHED
    assert len({(c["search"], *point_of(c).values()) for c in configs}) == 6


def test_a_suggestion_is_on_disk_before_its_trial_starts(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)
    config = suggest(searcher, "a")
    written = searcher.store.root.read_json("suggestions/both-50-00000.json")
    (run,) = searcher.runs("both-50", point_of(config))
    assert written["run_ids"] == [run.run_id]
    assert written["point"] == point_of(config)
    assert (written["search"], written["number"]) == ("both-50", 0)


def test_optuna_is_told_what_the_records_say(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, trials=5)
    configs = {name: suggest(searcher, name) for name in "abcd"}
    report(searcher, "a", 0.1, 0.2, 0.3, 0.4)
    record(searcher, configs["a"], 0, value=0.4)
    searcher.on_trial_complete("a", {"value": 0.4})
    report(searcher, "b", 0.15)
    record(searcher, configs["b"], 0, state="pruned", value=0.15, epochs=1, reason="ASHA, epoch 1")
    searcher.on_trial_complete("b", {"value": 0.15})
    record(searcher, configs["c"], 0, state="failed", value=None, reason="not finite in epoch 1")
    searcher.on_trial_complete("c", {"value": math.nan})
    searcher.on_trial_complete("d", None, error=True)
    a, b, c, d = told(searcher)
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL)
    assert (a.state, b.state, c.state, d.state) == states
    assert (a.value, a.intermediate_values) == (0.4, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4})
    assert (b.intermediate_values, b.user_attrs["reason"]) == ({1: 0.15}, "ASHA, epoch 1")
    assert (c.value, c.user_attrs["reason"]) == (None, "not finite in epoch 1")
    assert d.user_attrs["reason"] == DIED


def test_a_trial_that_died_gets_its_record_from_the_driver(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, trials=1)
    config = suggest(searcher, "a")
    searcher.on_trial_complete("a", None, error=True)
    (found,) = searcher.store.read_all()
    assert (found.state, found.reason, found.trial) == ("failed", DIED, 0)
    assert found.run_id == searcher.runs("both-50", point_of(config))[0].run_id
    assert searcher_of(tmp_path, trials=1).finished is not None
    assert told(searcher_of(tmp_path, trials=1))[0].state == TrialState.FAIL


def test_a_died_trial_keeps_the_record_of_its_first_scenario(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, "both-50,image-30", "worst")
    config = suggest(searcher, "a")
    record(searcher, config, 0, value=0.7)
    searcher.on_trial_complete("a", None, error=True)
    found = {r.scenario: (r.state, r.value) for r in searcher.store.read_all()}
    assert found == {"both-50": ("complete", 0.7), "image-30": ("failed", None)}
    assert told(searcher, "worst")[0].state == TrialState.FAIL


def test_an_epoch_reported_again_after_a_restart_counts_once(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)
    config = suggest(searcher, "a")
    report(searcher, "a", 0.1, 0.2)
    report(searcher, "a", 0.1, 0.2, 0.3)
    searcher.on_trial_result("a", {"value": 0.3, "state": "complete"})  # a trial's last word
    searcher.on_trial_result("b", {"so_far": 0.3, "step": 1})  # of no trial that is running
    record(searcher, config, 0, value=0.3, epochs=3)
    searcher.on_trial_complete("a", {"value": 0.3})
    assert told(searcher)[0].intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


@pytest.mark.parametrize(("objective", "value"), [("mean", 0.5), ("worst", 0.2)])
def test_a_robust_trial_meets_all_scenarios(tmp_path: Path, objective: Kind, value: float) -> None:
    searcher = searcher_of(tmp_path, "both-50,image-30", objective)
    config = suggest(searcher, "a")
    assert config == {"search": objective, "trial": 0, **PAPER}
    runs = searcher.runs(objective, point_of(config))
    assert [str(run.scenario) for run in runs] == ["both-50", "image-30"]
    record(searcher, config, 0, value=0.8)
    record(searcher, config, 1, value=0.2)
    searcher.on_trial_complete("a", {})
    assert told(searcher, objective)[0].value == pytest.approx(value)


def test_the_next_session_first_runs_what_is_unfinished_at_the_same_points(tmp_path: Path) -> None:
    before = searcher_of(tmp_path, trials=6)
    configs = {name: suggest(before, name) for name in "abcd"}
    for name in "ac":
        record(before, configs[name], 0)
        before.on_trial_complete(name, {})
    after = searcher_of(tmp_path, trials=6)
    again = [suggest(after, str(i)) for i in range(4)]
    assert again == [configs[name] for name in "bdac"]
    new = [suggest(after, str(i)) for i in (4, 5)]
    assert [config["trial"] for config in new] == [4, 5]
    assert after.suggest("6") == Searcher.FINISHED
    assert not {str(point_of(c)) for c in new} & {str(point_of(c)) for c in again}
    assert len((after.store.root / "suggestions").names(".json")) == 6


def test_what_is_finished_is_replayed_and_told_once(tmp_path: Path) -> None:
    before = searcher_of(tmp_path, trials=3)
    for name in "abc":
        config = suggest(before, name)
        report(before, name, 0.3)
        state = "pruned" if name == "b" else "complete"
        record(before, config, 0, state=state, epochs=1, value=0.3, reason=f"reason of {name}")
        before.on_trial_complete(name, {})
    after = searcher_of(tmp_path, trials=3)
    at_start = told(after)
    for name in "abc":
        suggest(after, name)
        report(after, name, 0.3)
        after.on_trial_complete(name, {})
    assert after.suggest("d") == Searcher.FINISHED
    assert told(after) == at_start
    for old, new in zip(told(before), told(after), strict=True):
        assert (old.state, old.params, old.distributions) == (
            new.state,
            new.params,
            new.distributions,
        )
        if old.state == TrialState.PRUNED:
            assert old.intermediate_values == new.intermediate_values
        assert old.value == new.value
        assert old.user_attrs["reason"] == new.user_attrs["reason"]


def test_a_robust_trial_cut_between_its_scenarios_is_unfinished(tmp_path: Path) -> None:
    before = searcher_of(tmp_path, "both-50,image-30", "worst")
    config = suggest(before, "a")
    record(before, config, 0, value=0.8)
    after = searcher_of(tmp_path, "both-50,image-30", "worst")
    assert told(after, "worst") == []
    assert suggest(after, "b") == config
    record(after, config, 1, value=0.6)
    after.on_trial_complete("b", {})
    assert told(after, "worst")[0].value == 0.6


def points_after(folder: Path, trials: int, sessions: list[int], lose: bool = False) -> list[Any]:
    """The points of a search done one trial at a time, in sessions of so many trials each.

    With `lose`, each session is killed while a further trial runs.
    """
    for upto in [*sessions, trials]:
        searcher = searcher_of(folder, trials=trials)
        finished = len(list(searcher.store.read_all()))
        for i in range(trials):
            if finished + i >= upto and upto < trials:
                break
            config = searcher.suggest(str(i))
            if not isinstance(config, dict):
                break
            if searcher.running[str(i)][1] is None:
                searcher.on_trial_complete(str(i), {})
            else:
                finish(searcher, str(i), config)
        if lose and upto < trials:
            searcher.suggest("lost")
    store = RecordStore(folder / "study")
    names = (store.root / "suggestions").names(".json")
    return [store.root.read_json(f"suggestions/{name}")["point"] for name in names]


def test_suggestion_n_is_the_same_whether_or_not_the_search_was_interrupted(
    tmp_path: Path,
) -> None:
    whole = points_after(tmp_path / "whole", 18, [])
    assert len({str(point) for point in whole}) == 18
    assert points_after(tmp_path / "calm", 18, [3, 11]) == whole
    assert points_after(tmp_path / "killed", 18, [3, 11, 15], lose=True) == whole


def test_another_seed_gives_other_points_after_the_papers(tmp_path: Path) -> None:
    one, two = (searcher_of(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    first, second = ([suggest(s, n) for n in "ab"] for s in (one, two))
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_more_trials_go_on_and_fewer_stop_sooner(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, trials=2)
    for name in "ab":
        finish(searcher, name, suggest(searcher, name))
    more = searcher_of(tmp_path, trials=3)
    assert [suggest(more, name)["trial"] for name in "abc"] == [0, 1, 2]
    fewer = searcher_of(tmp_path, trials=1)
    assert suggest(fewer, "a")["trial"] in (0, 2)
    assert fewer.suggest("b") == Searcher.FINISHED


def test_a_base_outside_the_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.alpha = 50\.0 lies outside"):
        OptunaSearcher(
            base=BASE.with_values({"method.alpha": 50.0}),
            space=SPACE,
            objective=Objective(),
            scenarios=parse_scenarios("both-50"),
            trials=1,
            store=RecordStore(tmp_path / "study"),
            strategy=ALONE,
        )
