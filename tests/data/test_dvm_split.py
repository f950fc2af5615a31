"""The split of DVM-CAR: published lists, the authors' calls, and their smaller training splits."""

import hashlib
from collections import Counter

import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from dfpl.data.sources._dvm_split import TrainShare, draw_train_share, hash_ids


def models(*counts: int) -> pd.Series:
    """A column of models by Adv_ID, one model after another."""
    names = [f"m{model}" for model, count in enumerate(counts) for _ in range(count)]
    return pd.Series(names, index=[f"{name}$${place}" for place, name in enumerate(names)])


def test_the_hash_is_that_of_sorted_lines() -> None:
    expected = hashlib.sha256(b"10_1$$2\n2_1$$1\n2_1$$10").hexdigest()
    assert hash_ids(["2_1$$10", "10_1$$2", "2_1$$1"]) == expected


@pytest.mark.parametrize(("share", "rows"), [("all", 70_565), ("10%", 7_056), ("1%", 705)])
def test_the_shares_of_286_models_have_the_published_sizes(share: TrainShare, rows: int) -> None:
    model = models(*[40] * 285, 70_565 - 40 * 285)
    kept = draw_train_share(model, share)
    assert len(kept) == rows
    assert len(set(model[kept])) == 286


def test_a_tenth_holds_the_first_of_each_model_and_a_stratified_rest() -> None:
    model = models(60, 40).sample(frac=1, random_state=3)  # in an order of its own, as published
    first = model.groupby(model).head(1)
    others = [name for name in model.index if name not in first.index]
    _, drawn = train_test_split(others, test_size=10 - 2, random_state=2023, stratify=model[others])
    kept = draw_train_share(model, "10%")
    assert set(kept) == {*first.index, *drawn}
    assert Counter(model[kept]) == {"m0": 6, "m1": 4}
    assert kept.tolist() == [name for name in model.index if name in set(kept)]


def test_where_not_every_model_can_get_another_the_rest_is_not_stratified() -> None:
    model = models(20, 20, 20)  # 6, of which 3 are the first ones: 3 more could be one of each
    assert draw_train_share(model, "10%").size == 6
    model = models(18, 18, 14)  # 5: 2 more, for 3 models
    assert draw_train_share(model, "10%").size == 5


def test_no_model_is_left_out_of_a_share_that_is_smaller_than_the_models() -> None:
    model = models(3, 3, 3)
    assert draw_train_share(model, "1%").tolist() == ["m0$$0", "m1$$3", "m2$$6"]


def test_a_model_whose_others_are_one_cannot_be_stratified() -> None:
    with pytest.raises(ValueError, match="least populated class"):
        draw_train_share(models(98, 2), "10%")
