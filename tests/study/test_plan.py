"""The command line of a study: which method is searched, and what it has in common with others."""

from pathlib import Path
from typing import Any

import pytest
from samples import save_packed

from dfpl.fields import ConfigError
from dfpl.method import load
from dfpl.model import Config
from dfpl.study import run
from dfpl.study.plan import Plan, SearchOptions, SweepOptions, parse, prepare, table_plan
from dfpl.study.protocol import with_encoders_of

BASE = {
    "method.width": 64,
    "method.image_network": "small",
    "method.tabular_shared_depth": 1,
    "method.tabular_branch_depth": 2,
    "method.task_loss": "bce",
    "method.gamma": 0.3,
    "metric": "balanced_accuracy",
}
PLAN = table_plan("tune_table", BASE)


def method_of(*arguments: str) -> dict[str, Any]:
    return parse(PLAN, SearchOptions(), list(arguments)).method.to_dict()


def test_without_an_option_the_method_is_the_scripts() -> None:
    found = parse(PLAN, SearchOptions(), ["--method.width", "32"])
    assert (found.study.method, found.method.name) == ("dfpl", "dfpl")
    assert (found.method.width, found.method.gamma) == (32, 0.3)


@pytest.mark.parametrize("typed", [["--method", "im_fuse"], ["--method=im_fuse"]])
def test_another_method_has_the_scripts_encoders_and_the_rest_from_its_own_paper(
    typed: list[str],
) -> None:
    own = load("im_fuse").Config().to_dict()
    encoders = {"width": 64, "image_network": "small", "tabular_depth": 3}
    assert method_of(*typed) == {**own, **encoders}  # its own task_loss; gamma is DFPL's alone


def test_fields_of_another_method_are_given_under_the_same_names() -> None:
    found = method_of("--method.width=32", "--method", "im_fuse", "--method.num-states", "8")
    assert (found["name"], found["width"], found["num_states"]) == ("im_fuse", 32, 8)


def test_fields_that_only_the_scripts_method_has_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        method_of("--method=im_fuse", "--method.num-prototypes=4")
    assert "--method.num-prototypes" in "".join(capsys.readouterr())


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no method 'drfus'; did you mean 'drfuse'"):
        method_of("--method", "drfus")


def test_help_tells_the_option_and_the_fields_of_the_chosen_method(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        method_of("--method=drfuse", "--help")
    text = capsys.readouterr().out
    assert "--method STR" in text and "Whose hyperparameters are searched" in text
    assert "--method.ranking-weight" in text and "--method.num-prototypes" not in text


def test_a_sweep_has_no_such_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(PLAN, SweepOptions(), ["--method", "im_fuse"])
    assert "--method" in "".join(capsys.readouterr())


def test_searches_of_several_methods_are_several_studies(tmp_path: Path) -> None:
    save_packed(tmp_path / "data")
    place = [f"--data={tmp_path / 'data'}", f"--storage={tmp_path / 'runs'}"]
    names = {
        method: prepare(PLAN, SearchOptions(), [*place, *options]).root.name
        for method, options in {
            "dfpl": [],
            "drfuse": ["--method=drfuse"],
            "shaspec": ["--method=shaspec", "--name=mine"],
        }.items()
    }
    assert names == {"dfpl": "tune_table", "drfuse": "tune_table_drfuse", "shaspec": "mine"}


def test_the_space_searched_is_the_methods_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run._space("shaspec", []) == load("shaspec").SEARCH_SPACE
    assert "method.beta" not in run._space("shaspec", ["--method.beta=0.1"])
    monkeypatch.setattr(load("shaspec"), "SEARCH_SPACE", {})
    with pytest.raises(ConfigError, match="shaspec has nothing to search"):
        run._space("shaspec", [])


def test_encoders_without_branches_get_the_blocks_that_a_sample_passes() -> None:
    config = Config(width=64, tabular_heads=4, tabular_shared_depth=3, tabular_branch_depth=2)
    plain = with_encoders_of(config, "dmrnet").to_dict()
    assert (plain["tabular_depth"], plain["tabular_heads"], plain["width"]) == (5, 4, 64)
    parted = with_encoders_of(config, "drfuse").to_dict()
    assert (parted["tabular_shared_depth"], parted["tabular_branch_depth"]) == (3, 2)
    assert parted["image_split"] == load("drfuse").Config().image_split
    assert with_encoders_of(config, "dfpl") is config


def test_a_typing_error_in_a_script_is_refused_for_every_method() -> None:
    plan = Plan(name="x", source="dvm", base={"method.widht": 64})
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        parse(plan, SearchOptions(), ["--method=drfuse"])
