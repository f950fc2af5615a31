"""The runs of a sweep as Tune is given them."""

from pathlib import Path

import pytest
from ray.tune.search import Searcher
from samples import make_packed, make_run

from dfpl.study.listing import Listing
from dfpl.study.records import RecordStore
from dfpl.study.resources import MOST_DEATHS

RUNS = [make_run(make_packed(), seed=seed) for seed in range(3)]


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    return Listing("confirm", RUNS, RecordStore(tmp_path / "study"))


def finish(listing: Listing, trial_id: str) -> None:
    """End a run with a record; it counts for nothing here that this one is of a failure."""
    run = RUNS[listing.running[trial_id]]
    listing.store.fail(run, "confirm", listing.running[trial_id], "NonFiniteError")
    listing.on_trial_complete(trial_id, {})


def test_each_run_is_handed_out_once_and_in_order(listing: Listing) -> None:
    assert [listing.suggest(name) for name in "abc"] == [{"run": place} for place in range(3)]
    assert listing.suggest("d") is None  # one that runs may die
    for name in "abc":
        finish(listing, name)
    assert listing.suggest("e") == Searcher.FINISHED


def test_a_run_whose_process_died_comes_again_at_once(listing: Listing) -> None:
    assert listing.suggest("a") == {"run": 0} and listing.suggest("b") == {"run": 1}
    listing.on_trial_complete("a", None, error=True)
    assert listing.store.read(RUNS[0].run_id) is None
    assert [listing.suggest(name) for name in "cd"] == [{"run": 0}, {"run": 2}]


def test_a_run_that_dies_again_and_again_has_failed(listing: Listing) -> None:
    for _ in range(MOST_DEATHS + 1):
        assert listing.store.read(RUNS[0].run_id) is None
        assert listing.suggest("a") == {"run": 0}
        listing.on_trial_complete("a", None, error=True)
    found = listing.store.read(RUNS[0].run_id)
    assert found is not None and (found.state, found.search, found.trial) == (
        "failed",
        "confirm",
        0,
    )
    assert found.reason == "its process ended without a record"
    assert listing.suggest("b") == {"run": 1}
