"""One pass over the rows: each exactly once, in order, and nothing hidden is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import workers
from samples import make_packed, make_run

from dfpl.data.loader import Loader, View
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import Scenario
from dfpl.evaluate import (
    logits_in_states,
    logits_under_scenario,
    predict_split,
    representations_of,
)
from dfpl.method import STATES, Method, build
from dfpl.predictions import Predictions

CPU = torch.device("cpu")


def packed_with_gaps() -> PackedDataset:
    """60 samples, 15 of the test split; some lack a modality by nature."""
    packed = make_packed(60)
    rows = packed.rows("test")
    sample = packed.sample.copy()
    sample.loc[rows[:2], "has_image"] = False
    sample.loc[rows[2:4], "has_table"] = False
    return replace(packed, sample=sample)


def make_method(packed: PackedDataset) -> Method:
    torch.manual_seed(0)
    return build(make_run(packed).method, packed.schema)


def make_loader(packed: PackedDataset, scenario: str | None, batch_size: int) -> Loader:
    chosen = Scenario.parse(scenario) if scenario else None
    statistics = View.of(packed, "train").statistics()
    return Loader(View.of(packed, "test", chosen), statistics, batch_size, CPU)


PACKED = packed_with_gaps()
METHOD = make_method(PACKED)


def representations(loader: Loader) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(v) for name, v in representations_of(METHOD, loader).items()}


def worker(me: int, folder: Path) -> None:
    found = predict_split(METHOD, make_loader(PACKED, "both-30", 4), "test")
    (folder / f"{me}.parquet").write_bytes(found.to_parquet())
    loader = make_loader(PACKED, None, 4)
    one = replace(loader.view, rows=loader.view.rows[:1], available=loader.view.available[:1])
    single = Loader(one, loader.statistics, 4, CPU)
    torch.save(torch.from_numpy(logits_under_scenario(METHOD, single)), folder / f"{me}.pt")
    torch.save([representations(own) for own in (loader, single)], folder / f"shown-{me}.pt")


def test_two_workers_predict_and_show_every_row_once_in_order(tmp_path: Path) -> None:
    workers.start(worker, 2, tmp_path)
    alone = predict_split(METHOD, make_loader(PACKED, "both-30", 4), "test")
    first = logits_under_scenario(METHOD, make_loader(PACKED, None, 4))[:1]
    own = representations(make_loader(PACKED, None, 4))
    for me in range(2):
        together = Predictions.from_parquet((tmp_path / f"{me}.parquet").read_bytes())
        assert together.ids.tolist() == alone.ids.tolist()
        np.testing.assert_array_equal(together.label, alone.label)
        np.testing.assert_array_equal(together.present, alone.present)
        for state in STATES:
            np.testing.assert_allclose(together.logits[state], alone.logits[state], atol=1e-6)
        # more workers than rows: the second has none
        np.testing.assert_allclose(torch.load(tmp_path / f"{me}.pt").numpy(), first, atol=1e-6)
        shown, of_one = torch.load(tmp_path / f"shown-{me}.pt")
        assert list(shown) == list(of_one) == list(own)
        for name, vectors in own.items():
            close = {"rtol": 0, "atol": 1e-5, "equal_nan": True}
            torch.testing.assert_close(shown[name], vectors, **close)
            torch.testing.assert_close(of_one[name], vectors[:1], **close)


@pytest.mark.parametrize("batch_size", [1, 4, 15, 1000])
def test_rows_come_in_the_order_of_the_data_whatever_the_batch_size(batch_size: int) -> None:
    found = predict_split(METHOD, make_loader(PACKED, None, batch_size), "test")
    rows = PACKED.rows("test")
    assert found.ids.tolist() == PACKED.ids(rows) and (found.split == "test").all()
    np.testing.assert_array_equal(found.label, PACKED.label[rows])
    whole = predict_split(METHOD, make_loader(PACKED, None, 15), "test")
    for state in STATES:
        np.testing.assert_allclose(found.logits[state], whole.logits[state], atol=1e-6)


@pytest.mark.parametrize("scenario", [None, "image-70", "tabular-50", "both-50", "both-100"])
def test_states_that_are_hidden_are_nan(scenario: str | None) -> None:
    loader = make_loader(PACKED, scenario, 4)
    available = loader.view.available
    logits = logits_in_states(METHOD, loader)
    for state, needs in STATES.items():
        possible = np.all(available | ~np.array(needs), axis=1)
        expected = np.repeat(possible[:, None], 3, axis=1)
        np.testing.assert_array_equal(np.isfinite(logits[state]), expected)
        assert np.isnan(logits[state][~possible]).all()


def test_the_state_of_a_row_gives_the_logits_under_its_scenario() -> None:
    loader = make_loader(PACKED, "both-50", 4)
    found = predict_split(METHOD, loader, "test")
    direct = logits_under_scenario(METHOD, loader)
    np.testing.assert_allclose(found.pick(found.present), direct, atol=1e-6)


@torch.no_grad()
def test_a_state_is_what_the_method_says_when_the_rest_is_taken_away() -> None:
    loader = make_loader(PACKED, None, 15)
    logits = logits_in_states(METHOD, loader)
    _, batch = next(loader.in_order())
    for state, needs in STATES.items():
        mask = batch.available & torch.tensor(needs)
        possible = (mask == torch.tensor(needs)).all(dim=1)
        image = batch.image.masked_fill(~mask[:, :1, None, None], torch.nan)
        numeric = batch.numeric.masked_fill(~mask[:, 1:], torch.nan)
        taken = batch._replace(image=image, numeric=numeric, available=mask)
        expected = METHOD(taken).logits[possible]
        torch.testing.assert_close(
            torch.from_numpy(logits[state])[possible], expected, rtol=1e-5, atol=1e-6
        )


def test_evaluation_leaves_weights_and_statistics_as_they_are() -> None:
    before = {name: value.clone() for name, value in METHOD.state_dict().items()}
    METHOD.train()
    logits_in_states(METHOD, make_loader(PACKED, None, 4))
    assert all(torch.equal(value, before[name]) for name, value in METHOD.state_dict().items())
