"""The layers: imports point one way, torch and Ray stay where they belong, nothing is unpickled."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "dfpl": {"studies", "analysis", "tests"},
    "studies": {"analysis", "torch", "tests"},
    "analysis": {"ray", "torch", "studies", "optuna", "tests"},
}
WITH_TORCH = {"loader", "augment", "batch"}  # of dfpl/data
WITHOUT_TORCH = [
    *("fields", "compute", "config", "metrics", "predictions", "storage", "intervals", "probe"),
    "representations",
    *("contribution", "robustness"),
    "smallest",
    "study/records",
    *(
        path.relative_to(ROOT / "dfpl").with_suffix("").as_posix()
        for path in sorted((ROOT / "dfpl/data").rglob("*.py"))
        if path.stem not in WITH_TORCH
    ),
]
UNSAFE_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "read_pickle", "unsafe_load", "full_load"}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def nodes(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text()))


def imported_by(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever the import stands."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {node.module or ""}
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported_by(path)}


def breaches(paths: list[Path], forbidden: set[str]) -> dict[str, list[str]]:
    """Files that import one of the forbidden packages."""
    found = {str(path.relative_to(ROOT)): sorted(packages(path) & forbidden) for path in paths}
    return {path: names for path, names in found.items() if names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str) -> None:
    assert files(package)
    found = breaches(files(package), FORBIDDEN[package])
    if package == "dfpl":  # the command line is the outermost layer: dfpl report
        assert found.pop("dfpl/cli.py") == ["analysis"]
    assert found == {}


def test_only_the_study_engine_knows_ray_and_optuna() -> None:
    others = [path for path in files("dfpl") if ROOT / "dfpl/study" not in path.parents]
    assert breaches(others, {"ray", "optuna"}) == {}


def test_only_the_command_line_knows_the_study_engine() -> None:
    knowing = {
        path.relative_to(ROOT).as_posix()
        for path in files("dfpl")
        if ROOT / "dfpl/study" not in path.parents
        and any(name.startswith("dfpl.study") for name in imported_by(path))
    }
    assert knowing <= {"dfpl/cli.py"}


def loaded_after(code: str) -> set[str]:
    """The packages a fresh interpreter has loaded after `code`."""
    shown = f"import sys\n{code}\nprint('\\n' + ' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_data_configs_and_records_load_without_torch() -> None:
    modules = [
        "dfpl." + path.removesuffix("/__init__").replace("/", ".")
        for path in WITHOUT_TORCH
        if (ROOT / "dfpl" / f"{path}.py").exists()
    ]
    assert len(modules) > 10
    loaded = loaded_after("".join(f"import {name}\n" for name in modules))
    assert not loaded & {"torch", "ray", "optuna", "monai", "torchmetrics"}


def test_the_model_and_its_training_load_without_ray() -> None:
    loaded = loaded_after("import dfpl.train, dfpl.model, dfpl.predict")
    assert "torch" in loaded and not loaded & {"ray", "optuna", "monai"}


def test_help_is_quick() -> None:
    code = (
        "from dfpl.cli import main\n"
        "sys.argv = ['dfpl', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert not loaded_after(code) & {"torch", "ray", "optuna", "pandas", "monai", "scipy"}


def called(node: ast.Call) -> str:
    """The last name of what is called: `load` of `np.load(...)`."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def owner(node: ast.Call) -> str:
    value = node.func.value if isinstance(node.func, ast.Attribute) else None
    return value.id if isinstance(value, ast.Name) else ""


def unsafe(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    says = {word.arg: ast.unparse(word.value) for word in node.keywords}
    name, of = called(node), owner(node)
    builtin = isinstance(node.func, ast.Name) and name in {"eval", "exec"}
    return (
        builtin
        or name in UNSAFE_CALLS - {"eval", "exec"}
        or (of == "yaml" and name == "load")
        or (of == "joblib" and name == "load")
        or (of == "torch" and name == "load" and says.get("weights_only") != "True")
        or says.get("allow_pickle", "False") != "False"
        or says.get("shell", "False") != "False"
    )


@pytest.mark.parametrize("package", ["dfpl", "analysis", "studies"])
def test_nothing_is_unpickled_or_evaluated(package: str) -> None:
    assert breaches(files(package), UNSAFE_MODULES) == {}
    assert not any("joblib.load" in imported_by(path) for path in files(package))
    found = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in files(package)
        for node in nodes(path)
        if unsafe(node)
    ]
    assert not found


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("eval('1')", True),
        ("model.eval()", False),
        ("np.load(x, allow_pickle=True)", True),
        ("np.load(x)", False),
        ("joblib.load(x)", True),
        ("joblib.Parallel(2)(x)", False),
        ("torch.load(x)", True),
        ("torch.load(x, weights_only=True)", False),
        ("yaml.load(x)", True),
        ("json.load(x)", False),
        ("pd.read_pickle(x)", True),
    ],
)
def test_the_rule_against_unpickling_sees_what_it_should(code: str, wrong: bool) -> None:
    assert any(unsafe(node) for node in ast.walk(ast.parse(code))) == wrong
