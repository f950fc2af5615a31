"""Frozen, checked fields: what is wrong is refused with its dotted name and the way out."""

from typing import Annotated, Any

import pytest
from pydantic import Field, model_validator

from dfpl.fields import Config, ConfigError, flatten, unknown_name


class Engine(Config):
    power: Annotated[float, Field(gt=0)] = 1.0
    cylinders: Annotated[int, Field(ge=1, le=12)] = 4
    fuels: dict[str, list[str]] = Field(default={"petrol": ["E5"]})


class Car(Config):
    wheels: int
    spare: int = 0
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _spares_fit(self) -> "Car":
        if self.spare > self.wheels:
            raise ConfigError(f"spare must not exceed wheels={self.wheels}, got {self.spare}")
        return self


CAR = Car(wheels=4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"engine.powr": 2.0}, "no field 'engine.powr'; did you mean 'engine.power'?"),
        ({"power": 2.0}, "no field 'power'; did you mean 'engine.power'?"),
        ({"engine.power.max": 2.0}, "no field 'engine.power.max'; did you mean 'engine.power'?"),
        ({"zzz": 1}, "no field 'zzz'; there are engine.cylinders, "),
        ({"engine.power": 0.0}, "engine.power should be greater than 0, got 0.0"),
        ({"engine.power": "1"}, "engine.power should be a valid number, got '1'"),
        ({"engine.power": float("inf")}, "engine.power should be a finite number, got inf"),
        ({"engine.cylinders": 4.0}, "engine.cylinders should be a valid integer, got 4.0"),
        ({"engine.cylinders": True}, "engine.cylinders should be a valid integer, got True"),
        ({"engine.cylinders": 13}, "engine.cylinders should be less than or equal to 12, got 13"),
        ({"spare": 5}, "spare must not exceed wheels=4, got 5"),
    ],
)
def test_a_wrong_value_is_refused_by_its_dotted_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        CAR.with_values(values)
    assert message in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        CAR.with_values({"engine.power": -1.0, "engine.cylinders": 0})
    assert str(refused.value) == (
        "engine.power should be greater than 0, got -1.0; "
        "engine.cylinders should be greater than or equal to 1, got 0"
    )


def test_an_unknown_name_in_a_file_is_refused_below_its_prefix() -> None:
    with pytest.raises(ConfigError, match=r"'my\.engine\.powr'; did you mean 'my\.engine\.power'"):
        Car.from_dict({"wheels": 4, "engine": {"powr": 1.0}}, "my.")


def test_a_missing_name_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^my\.wheels is missing$"):
        Car.from_dict({}, "my.")


def test_values_that_are_tied_change_together() -> None:
    # neither order one by one would pass: 6 spares for 4 wheels, 2 wheels with 3 spares
    more = CAR.with_values({"spare": 6, "wheels": 6})
    less = CAR.with_values({"spare": 3}).with_values({"wheels": 2, "spare": 1})
    assert (more.wheels, more.spare, less.wheels, less.spare) == (6, 6, 2, 1)
    with pytest.raises(ConfigError):
        CAR.with_values({"spare": 6})


def test_with_values_leaves_the_original_as_it_is() -> None:
    changed = CAR.with_values({"engine.power": 3.0, "engine.fuels.petrol": ["E10"]})
    assert (CAR.engine.power, changed.engine.power) == (1.0, 3.0)
    assert CAR.engine.fuels == {"petrol": ["E5"]}
    assert changed.engine.fuels == {"petrol": ["E10"]}


def test_plain_values_are_a_copy() -> None:
    CAR.to_dict()["engine"]["fuels"]["petrol"].append("E85")
    assert CAR.engine.fuels == {"petrol": ["E5"]}


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        CAR.wheels = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_flatten_by_hand() -> None:
    assert dict(flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}})) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_the_nearest_name_goes_before_one_with_the_same_last_part() -> None:
    assert "'method.alpha'" in unknown_name("metod.alpha", ["optim.alpha", "method.alpha"])
