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
from dfpl.study.objective import Kind, Met, Objective
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import MOST_DEATHS
from dfpl.study.searcher import OptunaSearcher, Strategy
from dfpl.study.suggestion import Suggestion
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
    objective: Kind | Objective = "each",
    trials: int = 4,
    seed: int = 0,
    strategy: Strategy = ALONE,
    view: View | None = None,
) -> OptunaSearcher:
    """The searcher of a session: built anew, it has only what lies in the folder."""
    return OptunaSearcher(
        base=BASE.with_values({"seed": seed}),
        space=SPACE,
        objective=objective if isinstance(objective, Objective) else Objective(kind=objective),
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
    facts["config"] = run.to_dict()
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
    assert searcher.suggest("6") is None  # none of them has ended
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
    for name in "dddddd":
        searcher.on_trial_complete(name, None, error=True)
        assert suggest(searcher, "d") == configs["d"]
    searcher.on_trial_complete("d", None, error=True)
    a, b, c, *deaths, d = told(searcher)
    assert {died.state for died in deaths} == {TrialState.FAIL} and len(deaths) == 6
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL)
    assert (a.state, b.state, c.state, d.state) == states
    assert (a.value, a.intermediate_values) == (0.4, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4})
    assert (b.intermediate_values, b.user_attrs["reason"]) == ({1: 0.15}, "ASHA, epoch 1")
    assert (c.value, c.user_attrs["reason"]) == (None, "not finite in epoch 1")
    assert d.user_attrs["reason"] == DIED


def test_a_trial_that_died_is_suggested_again_before_all_others(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, trials=3)
    configs = {name: suggest(searcher, name) for name in "abc"}
    assert searcher.suggest("d") is None  # one of them may die
    searcher.on_trial_complete("b", None, error=True)
    assert list(searcher.store.read_all()) == []
    assert suggest(searcher, "e") == configs["b"]
    for name, config in {"a": "a", "e": "b", "c": "c"}.items():
        record(searcher, configs[config], 0)
        searcher.on_trial_complete(name, {})
    assert searcher.suggest("f") == Searcher.FINISHED
    assert sorted(t.state.name for t in told(searcher)) == ["COMPLETE"] * 3 + ["FAIL"]


def test_what_died_of_a_search_comes_before_the_next_search(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, "both-50,image-30", trials=1)
    first, second = suggest(searcher, "a"), suggest(searcher, "b")
    assert first["search"] != second["search"]
    searcher.on_trial_complete("a", None, error=True)
    assert suggest(searcher, "c") == first


def die(searcher: OptunaSearcher, times: int) -> None:
    """Lose the process of the first trial again and again."""
    for time in range(times):
        if time:
            suggest(searcher, "a")
        searcher.on_trial_complete("a", None, error=True)


def test_a_trial_that_died_too_often_gets_its_record_from_the_driver(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, trials=1)
    config = suggest(searcher, "a")
    die(searcher, MOST_DEATHS)
    assert list(searcher.store.read_all()) == []
    suggest(searcher, "a")
    die(searcher, 1)
    (found,) = searcher.store.read_all()
    assert (found.state, found.reason, found.trial) == ("failed", DIED, 0)
    assert found.run_id == searcher.runs("both-50", point_of(config))[0].run_id
    assert searcher_of(tmp_path, trials=1).finished is not None
    assert told(searcher_of(tmp_path, trials=1))[0].state == TrialState.FAIL


def test_a_died_trial_keeps_the_record_of_its_first_scenario(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, "both-50,image-30", "worst")
    config = suggest(searcher, "a")
    record(searcher, config, 0, value=0.7)
    die(searcher, MOST_DEATHS + 1)
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
    assert after.suggest("6") is None
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
    assert fewer.suggest("b") is None


def origins(searcher: OptunaSearcher, search: str = "both-50") -> list[str]:
    """Where the points of a search are from, as its suggestion files say."""
    found = Suggestion.read_all(searcher.store.root)
    return [one.origin for one in found if one.search == search]


def played(searcher: OptunaSearcher, count: int) -> list[Config]:
    """So many trials one after another, each complete; and what was suggested."""
    configs = []
    for number in range(count):
        config = suggest(searcher, str(number))
        for at in range(len(searcher.runs(config["search"], point_of(config)))):
            record(searcher, config, at)
        searcher.on_trial_complete(str(number), {})
        configs.append(config)
    return configs


@pytest.mark.parametrize(("weight", "origin"), [(0.0, "sampler"), (1e9, "prior")])
def test_the_weight_of_the_prior_says_where_points_are_from(
    tmp_path: Path, weight: float, origin: str
) -> None:
    searcher = searcher_of(tmp_path, trials=12, strategy=Strategy(transfer=0, prior_weight=weight))
    configs = played(searcher, 12)
    assert origins(searcher) == ["paper"] + [origin] * 11
    assert len({str(point_of(config)) for config in configs}) == 12


def test_the_prior_fades_with_the_number_of_trials(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, trials=80, strategy=Strategy(sampler="random", transfer=0))
    played(searcher, 80)
    found = [origin == "prior" for origin in origins(searcher)[1:]]
    # the sum over n from 1 to 79 of 2 / (2 + n) is 6.97, its standard deviation 2.2
    assert 2 <= sum(found) <= 13
    assert sum(found[:20]) > sum(found[-20:])


def test_the_next_search_starts_from_the_best_of_the_nearest_scenarios(tmp_path: Path) -> None:
    strategy = Strategy(transfer=3, prior_weight=0.0)
    searcher = searcher_of(tmp_path, "both-50,image-30,both-70", trials=6, strategy=strategy)
    configs = played(searcher, 18)
    names = ["both-50"] * 6 + ["image-30"] * 6 + ["both-70"] * 6
    assert [config["search"] for config in configs] == names  # one after another
    by_name = {name: [c for c in configs if c["search"] == name] for name in names}
    best = {
        name: [point_of(c) for c in sorted(found, key=quality, reverse=True)]
        for name, found in by_name.items()
    }
    assert origins(searcher, "both-50") == ["paper"] + ["sampler"] * 5
    for name in ("image-30", "both-70"):
        assert origins(searcher, name) == ["paper"] + ["transfer"] * 3 + ["sampler"] * 2
    # the paper's own point is not given again, wherever it was among the best
    expected = [point for point in best["both-50"] if point != PAPER][:3]
    assert [point_of(config) for config in by_name["image-30"]][1:4] == expected
    first = next(point for point in best["both-50"] if point != PAPER)
    assert point_of(by_name["both-70"][1]) == first  # of both-50, which is nearer than image-30


def test_a_search_starts_from_an_earlier_studys_best(tmp_path: Path) -> None:
    earlier = RecordStore(tmp_path / "earlier")
    points = [{"method.alpha": alpha, "method.num_prototypes": 9} for alpha in (0.3, 0.1, 3.0)]
    for point, value in zip(points, (0.7, 0.9, 0.8), strict=True):
        run = BASE.with_values({**point, "scenario.rate": 0.3})
        facts: Config = {"study": "earlier", "search": "both-30", "trial": 0, "value": value}
        facts |= {"run_id": run.run_id, "scenario": "both-30", "state": "complete"}
        earlier.save(Record(**facts, config=run.to_dict()), [], None)
    strategy = Strategy(transfer=2, prior_weight=0.0, transfer_from=str(tmp_path / "earlier"))
    searcher = searcher_of(tmp_path, trials=4, strategy=strategy)
    configs = played(searcher, 4)
    assert [config["method.alpha"] for config in configs[:3]] == [1.0, 0.1, 3.0]
    assert [config["method.num_prototypes"] for config in configs[:3]] == [5, 9, 9]
    assert origins(searcher) == ["paper", "transfer", "transfer", "sampler"]


def test_an_earlier_study_without_fitting_runs_is_refused(tmp_path: Path) -> None:
    strategy = Strategy(transfer_from=str(tmp_path / "earlier"))
    with pytest.raises(ConfigError) as refused:
        searcher_of(tmp_path, strategy=strategy)
    assert str(refused.value) == (
        f"--transfer-from {tmp_path}/earlier holds no complete run of method dfpl whose values "
        "lie in this search space"
    )


def test_a_pareto_trial_is_told_with_two_values_and_what_is_pruned_with_none(
    tmp_path: Path,
) -> None:
    searcher = searcher_of(tmp_path, "both-50,image-30", "pareto")
    a, b, c = (suggest(searcher, name) for name in "abc")
    report(searcher, "a", 0.1, 0.2)
    for at, value in enumerate((0.9, 0.3, 0.5)):
        record(searcher, a, at, value=value)
    record(searcher, b, 0, value=0.8)
    record(searcher, b, 1, state="pruned", value=0.2, reason="by hand")
    record(searcher, c, 0, value=None, state="failed", reason="not finite")
    for name in "abc":
        searcher.on_trial_complete(name, {})
    after = searcher_of(tmp_path, "both-50,image-30", "pareto")
    for one in (searcher, after):
        found = told(one, "pareto")
        assert [trial.state for trial in found] == [
            TrialState.COMPLETE,
            TrialState.PRUNED,
            TrialState.FAIL,
        ]
        assert found[0].values == [0.9, 0.3]
        assert [trial.values for trial in found[1:]] == [None, None]
        assert [trial.intermediate_values for trial in found] == [{}, {}, {}]


@pytest.mark.parametrize("kind", ["mean", "worst", "cvar"])
def test_the_race_ends_a_trial_alike_in_the_living_and_in_the_rebuilt_study(
    tmp_path: Path, kind: Kind
) -> None:
    reason = "racing dropped it after 2 of 3 runs"
    before = searcher_of(tmp_path, "both-50,image-30,image-70", kind)
    config = suggest(before, "a")
    reached = Objective(kind=kind).values([Met("both-50/0", 0.8), Met("image-30/0", 0.4)])[0]
    record(before, config, 0, value=0.8)
    record(before, config, 1, value=0.4)
    report(before, "a", *[0.8] * 4, *[0.5] * 3, reached)
    before.store.drop(f"{kind}-00000", reason)
    before.on_trial_complete("a", {})
    after = searcher_of(tmp_path, "both-50,image-30,image-70", kind)
    for searcher in (before, after):
        (trial,) = told(searcher, kind)
        assert trial.state == TrialState.PRUNED
        assert trial.user_attrs["reason"] == reason
        assert trial.last_step == 8  # epochs of both runs
        assert trial.value == trial.intermediate_values[8] == pytest.approx(reached)
    assert told(after, kind)[0].user_attrs["epochs"] == 8


def robust(folder: Path, strategy: Strategy = ALONE) -> OptunaSearcher:
    scenarios = "both-30,image-30,tabular-30"
    return searcher_of(folder, scenarios, "worst", trials=9, strategy=strategy)


def in_blocks(searcher: OptunaSearcher, config: Config) -> None:
    """Play a trial that is worst in tabular-30, where the points differ most."""
    (suggestion, _), *_ = searcher.running.values()
    value = quality(config)
    values = {"both-30/0": 0.7 + value / 99, "image-30/0": 0.9, "tabular-30/0": value / 2}
    for at, block in enumerate(suggestion.blocks):
        runs = searcher.runs("worst", point_of(config), suggestion.blocks)
        assert suggestion.run_ids[at] == runs[at].run_id
        place = list(values).index(block)
        record(searcher, config, place, value=values[block])
    searcher.on_trial_complete("a", {})


def test_blocks_that_tell_most_come_first_in_the_order_that_is_noted(tmp_path: Path) -> None:
    as_given = ["both-30/0", "image-30/0", "tabular-30/0"]
    telling = ["both-30/0", "tabular-30/0", "image-30/0"]  # the first stays, the last tells nothing
    for number in range(9):
        searcher = robust(tmp_path)  # a new session each time: the order is kept with the trial
        config = suggest(searcher, "a")
        while searcher.running["a"][1] is None:
            searcher.on_trial_complete("a", {})
            config = suggest(searcher, "a")
        in_blocks(searcher, config)
        assert config["trial"] == number
    found = list(Suggestion.read_all(RecordStore(tmp_path / "study").root))
    assert [one.blocks for one in found] == [as_given] * 5 + [telling] * 4


def suggested_despite(folder: Path, tests: list[float], earlier: str = "") -> list[Any]:
    """All that is suggested where records have these numbers of the test split, in two sessions,
    of which the second knows the records alone."""
    strategy = Strategy(transfer=2, transfer_from=earlier)
    for upto in (9, 24):
        searcher = searcher_of(folder, "both-50,image-30", trials=12, strategy=strategy)
        for number in range(upto):
            config = suggest(searcher, str(number))
            if searcher.running[str(number)][1] is not None:
                metrics = {"val/accuracy": quality(config)}
                metrics |= {f"test/{n}/accuracy": tests[number] for n in ("scenario", "both")}
                record(searcher, config, 0, metrics=metrics)
            searcher.on_trial_complete(str(number), {"test/scenario/accuracy": tests[number]})
    found = Suggestion.read_all(RecordStore(folder / "study").root)
    return [(one.point, one.blocks, one.run_ids, one.origin) for one in found]


def test_no_test_number_reaches_the_searcher(tmp_path: Path) -> None:
    """Suggestions are the same to the last bit whatever the records say about the test split."""
    tests = [number / 24 for number in range(24)]
    first = suggested_despite(tmp_path / "true", tests)
    assert {origin for *_, origin in first} == {"paper", "transfer", "prior", "sampler"}
    assert suggested_despite(tmp_path / "permuted", tests[::-1]) == first
    absurd = [1e300 * (-1) ** number for number in range(24)]
    assert suggested_despite(tmp_path / "absurd", absurd) == first
    after_true, after_absurd = (
        suggested_despite(tmp_path / f"after_{name}", tests, str(tmp_path / name / "study"))
        for name in ("true", "absurd")
    )
    assert after_true == after_absurd != first


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
