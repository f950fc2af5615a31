"""The search space in Optuna's words, and the point of a run in it."""

import json

import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from samples import make_packed, make_run

from dfpl.fields import Choice, ConfigError, FloatRange, IntRange, SearchSpace
from dfpl.model import SEARCH_SPACE
from dfpl.study.space import distributions, point_of, read_space

SPACE = {
    "method.alpha": FloatRange(0.01, 10.0, log=True),
    "method.delta": FloatRange(0.0, 0.5),
    "method.num_prototypes": IntRange(2, 15),
    "method.image_network": Choice(("small", "resnet18")),
}


def test_each_range_becomes_its_distribution_under_the_same_name() -> None:
    assert distributions(SPACE) == {
        "method.alpha": FloatDistribution(0.01, 10.0, log=True),
        "method.delta": FloatDistribution(0.0, 0.5),
        "method.num_prototypes": IntDistribution(2, 15),
        "method.image_network": CategoricalDistribution(("small", "resnet18")),
    }


@pytest.mark.parametrize("space", [SPACE, SEARCH_SPACE])
def test_a_space_is_read_back_from_json(space: SearchSpace) -> None:
    found = read_space(json.loads(json.dumps(space)))
    assert found == space
    assert [type(wanted) for wanted in found.values()] == [type(w) for w in space.values()]


@pytest.mark.parametrize("wanted", [[], [1], 3, "ab", [1, 2, True, 4]])
def test_what_is_no_range_is_refused(wanted: object) -> None:
    with pytest.raises(ConfigError, match=r"is no search range; study\.json was changed"):
        read_space({"method.alpha": wanted})


def test_the_point_of_a_run_is_what_its_config_says() -> None:
    run = make_run(make_packed(), method__alpha=2.5)
    assert point_of(run, SPACE) == {
        "method.alpha": 2.5,
        "method.delta": 0.2,
        "method.num_prototypes": 3,
        "method.image_network": "small",
    }


def test_the_papers_point_lies_inside_dfpls_space() -> None:
    point = point_of(make_run(make_packed(), method__num_prototypes=5), SEARCH_SPACE)
    assert (point["method.alpha"], point["method.beta"], point["method.gamma"]) == (1.0, 0.1, 0.1)
    assert (point["method.num_prototypes"], point["method.epsilon"]) == (5, 0.1)


@pytest.mark.parametrize(("name", "value"), [("alpha", 50.0), ("num_prototypes", 30)])
def test_a_value_outside_its_range_is_refused_by_name(name: str, value: float) -> None:
    run = make_run(make_packed(), **{f"method__{name}": value})
    with pytest.raises(ConfigError, match=rf"method\.{name} = {value} lies outside its search"):
        point_of(run, SPACE)


def test_a_choice_outside_its_values_is_refused_by_name() -> None:
    space = {"method.image_network": Choice(("resnet18", "resnet50"))}
    with pytest.raises(ConfigError, match=r"method\.image_network = small lies outside"):
        point_of(make_run(make_packed()), space)
