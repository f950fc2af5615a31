"""The files of `cluster/`: valid, closed to strangers, and naming studies that exist."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[1] / "cluster"


@pytest.mark.parametrize("name", ["local.sh", "slurm.sbatch"])
def test_the_scripts_are_valid_shell(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(CLUSTER / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["local.sh", "slurm.sbatch"])
def test_the_scripts_turn_token_authentication_on(name: str) -> None:
    assert "RAY_AUTH_MODE=token" in (CLUSTER / name).read_text()


def test_the_local_head_listens_on_loopback_alone() -> None:
    text = (CLUSTER / "local.sh").read_text()
    assert "--node-ip-address=127.0.0.1" in text
    assert "--dashboard-host=127.0.0.1" in text
    assert "0.0.0.0" not in text


def test_the_ray_job_is_valid_and_needs_a_token() -> None:
    job = yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in cluster["workerGroupSpecs"]:
        names = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        assert {"data", "results"} <= names


def test_every_study_that_is_named_exists() -> None:
    named = {
        match for p in CLUSTER.iterdir() for match in re.findall(r"studies/\w+\.py", p.read_text())
    }
    assert named
    assert all((CLUSTER.parent / path).is_file() for path in named)
