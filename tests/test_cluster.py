"""The files of `cluster/`: each valid, run with stand-ins where that is possible, and closed to
strangers: nothing listens on other than loopback without a token."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import ray
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from dfpl.study.plan import Plan, SearchOptions, parse

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
SCRIPTS = ["local.sh", "slurm.sbatch"]
TESTS = {
    "Dockerfile": "test_the_image_has_the_pinned_versions_no_root_and_only_named_files",
    "README.md": "test_the_commands_of_the_readme_name_files_and_options_that_exist",
    "local.sh": "test_the_local_head_is_closed_whatever_the_caller_has_set",
    "ray-up.yaml": "test_ray_up_is_valid_for_ray_itself",
    "rayjob.yaml": "test_the_ray_job_has_fields_that_kuberay_knows",
    "slurm.sbatch": "test_the_slurm_job_starts_a_head_and_workers_and_runs_the_study_there",
    "volumes.yaml": "test_volumes_are_the_claims_that_the_ray_job_mounts",
    "with_nodes.py": "test_a_command_runs_once_the_nodes_are_there",
}


def text_of(name: str) -> str:
    return (CLUSTER / name).read_text()


def code_of(name: str) -> str:
    """The file without its comments and with continued lines joined."""
    lines = [line for line in text_of(name).splitlines() if not line.lstrip().startswith("#")]
    return "\n".join(lines).replace("\\\n", " ")


def test_every_file_has_its_test() -> None:
    files = {path.name for path in CLUSTER.iterdir() if path.is_file()}
    assert files == set(TESTS)
    assert set(TESTS.values()) <= set(globals())


# Closed to strangers


@pytest.mark.parametrize("name", TESTS)
def test_nothing_listens_for_strangers(name: str) -> None:
    """Each `ray start` of a head names loopback for the dashboard, and has the token on."""
    code = code_of(name)
    assert "0.0.0.0" not in code and "RAY_AUTH_MODE=disabled" not in code
    for command in re.findall(r"ray start --head.*", code):
        assert "--dashboard-host=127.0.0.1" in command
        assert "--ray-client-server-port" not in command
        assert "RAY_AUTH_MODE=token" in code
    for host in re.findall(r"--(?:dashboard-)?address[ =](http\S+)", code):
        assert host.startswith(("http://127.0.0.1:", '"$'))


@pytest.mark.parametrize("name", TESTS)
def test_no_file_holds_a_secret(name: str) -> None:
    assert not re.search(r"[0-9a-f]{32}|AKIA[0-9A-Z]{16}|RAY_AUTH_TOKEN=[^\s]", text_of(name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_are_strict_and_valid_shell(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(CLUSTER / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = code_of(name)
    assert "set -euo pipefail" in code
    assert "`" not in code  # $(...) nests and quotes
    assert not re.search(r"\b(pkill|killall|ray stop)\b", code)  # they end others' processes
    assert not re.search(r"rm -rf? (?!\"\$)", code)
    bare = re.sub(r"<<'PY'\n.*?\nPY\n|'[^']*'|\"[^\"]*\"|\b\w+=\S*", "", code, flags=re.S)
    assert set(re.findall(r"\$\{?\w+", bare)) <= {"$0"}  # all others are quoted


# Stand-ins: commands that write down how they were called


def stand_in(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def calls(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.calls"
    return path.read_text().splitlines() if path.is_file() else []


def record(name: str) -> str:
    """Shell that notes the authentication mode, a token in the environment (there must be none),
    who may read the token's file, and the arguments."""
    who = '$(stat -c %a "$RAY_AUTH_TOKEN_PATH")'
    return f'echo "$RAY_AUTH_MODE ${{RAY_AUTH_TOKEN-}} {who} $*" >>"$LOG/{name}.calls"'


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """A copy of the scripts beside a .venv whose `ray` only writes down its calls."""
    bin_ = tmp_path / ".venv/bin"
    bin_.mkdir(parents=True)
    (tmp_path / "cluster").mkdir()
    for name in SCRIPTS:
        (tmp_path / "cluster" / name).write_text(text_of(name))
    (bin_ / "activate").write_text(f'export PATH="{bin_}:$PATH"')
    blocks = 'case " $* " in *" --block "*) trap "exit 0" TERM; while :; do sleep 0.05; done;; esac'
    stand_in(bin_, "ray", f"{record('ray')}\n{blocks}")
    nodes_there = 'test "$(grep -c " start " "$LOG/ray.calls")" = "$SLURM_NNODES"'
    study = (
        f'case "$*" in *studies/*) {record("python")}; echo "$RAY_ADDRESS" >>"$LOG/address"\n'
        f"until {nodes_there}; do sleep 0.05; done\n"
        "for _ in $(seq $((${TAKES:-0} * 20))); do sleep 0.05; done; exit ${CODE:-0};; esac"
    )
    stand_in(bin_, "python", f'{study}\nexec {sys.executable} "$@"')
    stand_in(bin_, "scontrol", 'echo "$*" >>"$LOG/scontrol.calls"; echo "JobState=${STATE}"')
    stand_in(
        bin_,
        "srun",
        'echo "$*" >>"$LOG/srun.calls"; while [[ "$1" == --* ]]; do shift; done; pids=()\n'
        'for i in $(seq 0 $((SLURM_NNODES - 1))); do SLURM_NODEID=$i "$@" & pids+=($!); done\n'
        "trap 'kill \"${pids[@]}\"' TERM; wait; wait",
    )
    yield tmp_path


def environment(repository: Path, **more: str) -> dict[str, str]:
    """What a caller may have set, the wrong things among them."""
    return {
        "PATH": f"{repository / '.venv/bin'}:{os.environ['PATH']}",
        "HOME": str(repository),
        "LOG": str(repository),
        "RAY_AUTH_MODE": "disabled",
        "RAY_AUTH_TOKEN": "of-another-cluster",
        "RAY_ADDRESS": "192.0.2.9:6379",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
        **more,
    }


# One machine


def test_the_local_head_is_closed_whatever_the_caller_has_set(repository: Path) -> None:
    done = subprocess.run(
        ["bash", "cluster/local.sh", ".venv/bin", "mine", "--dashboard-host", "0.0.0.0"],
        cwd=repository,
        env=environment(repository),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    made = calls(repository, "ray")
    # token mode, none in the environment, and a file that is private
    assert all(call.startswith("token  600 ") for call in made)
    (head,) = [call for call in made if " start " in call]
    (job,) = [call for call in made if "studies/" in call]
    assert "--node-ip-address=127.0.0.1" in head and "--dashboard-host=127.0.0.1" in head
    assert (
        "0.0.0.0" not in head
    )  # what follows the name goes to the study, which knows no such option
    assert re.search(r"--address http://127\.0\.0\.1:\d+ --working-dir \.", job)
    assert job.endswith(f"--storage {repository}/runs --name mine --dashboard-host 0.0.0.0")
    assert "export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0" in text_of("local.sh")


LISTENING = """
import os, sys, urllib.error, urllib.request
import ray, psutil
marker, dashboard = sys.argv[1:]
for process in psutil.process_iter():
    try:
        if marker in " ".join(process.cmdline()) or process.name().startswith("ray::"):
            if os.environ["RAY_AUTH_TOKEN_PATH"] == process.environ().get("RAY_AUTH_TOKEN_PATH"):
                for c in process.net_connections("tcp"):
                    if c.status == "LISTEN":
                        print("listens", process.name(), c.laddr.ip)
    except psutil.Error:
        pass
for token in ("", "Bearer " + "0" * 64):
    request = urllib.request.Request(dashboard + "/api/jobs/", headers={"Authorization": token})
    try:
        print("answers", urllib.request.urlopen(request).status)
    except urllib.error.HTTPError as error:
        print("answers", error.code)
"""


@pytest.mark.ray
def test_a_real_local_head_listens_on_loopback_alone_and_turns_strangers_away(
    repository: Path,
) -> None:
    real = Path(sys.executable).parent / "ray"
    (repository / "listening.py").write_text(LISTENING)
    stand_in(
        repository / ".venv/bin",
        "ray",
        f'case "$*" in *studies/*) set -- "$LOG/listening.py" dfpl-ray. "$4"\n'
        f'exec {sys.executable} "$@";; esac\nexec {real} "$@"',
    )
    done = subprocess.run(
        ["bash", "cluster/local.sh", ".venv/bin", "mine"],
        cwd=repository,
        env=environment(repository),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines()]
    hosts = {(words[1], words[-1]) for words in found if words[0] == "listens"}
    assert {"gcs_server", "raylet"} <= {name for name, _ in hosts}
    assert {host for _, host in hosts} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    codes = [int(words[-1]) for words in found if words[0] == "answers"]
    assert len(codes) == 2 and set(codes) <= {401, 403}


# Slurm


def slurm(repository: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "cluster/slurm.sbatch", *shlex.split("studies/tune_dvm.py --storage '/a b'")],
        cwd=repository,
        env=environment(
            repository,
            SLURM_JOB_ID="42",
            SLURM_NNODES="3",
            SLURM_CPUS_ON_NODE="16",
            SLURM_GPUS_ON_NODE="4",
            **{"STATE": "RUNNING", **more},
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("code", [0, 3])
def test_the_slurm_job_starts_a_head_and_workers_and_runs_the_study_there(
    repository: Path, code: int
) -> None:
    job = slurm(repository, CODE=str(code))
    output, _ = job.communicate(timeout=60)
    assert job.returncode == code, output
    srun = calls(repository, "srun")[0]
    assert srun.startswith("--ntasks=3 --ntasks-per-node=1 --cpu-bind=none bash -c")
    starts = [call for call in calls(repository, "ray") if " start " in call]
    heads = [call for call in starts if "--head" in call]
    workers = [call for call in starts if "--head" not in call]
    assert (len(heads), len(workers)) == (1, 2)
    for call in starts:
        assert call.startswith("token  600 ")
        assert "--num-cpus=16 --num-gpus=4 --temp-dir=/tmp/dfpl-42" in call
    assert "--dashboard-host=127.0.0.1" in heads[0]
    ip, port = re.findall(r"--node-ip-address=(\S+) --port=(\d+)", heads[0])[0]
    assert all(f"--address={ip}:{port}" in call for call in workers)
    (study,) = calls(repository, "python")
    assert study.startswith("token  600 cluster/with_nodes.py --nodes 3 ")
    assert study.endswith("-- python -u studies/tune_dvm.py --storage /a b")
    assert (repository / "address").read_text() == f"{ip}:{port}\n"
    assert not list((repository / "runs").iterdir())  # the token went with the job
    assert not calls(repository, "scontrol")


@pytest.mark.parametrize(
    ("more", "requeued"),
    [
        ({}, True),
        ({"SLURM_RESTART_COUNT": "19"}, True),
        ({"SLURM_RESTART_COUNT": "20"}, False),
        ({"STATE": "CANCELLED"}, False),
    ],
)
def test_a_slurm_job_told_to_stop_goes_back_to_the_queue(
    repository: Path, more: dict[str, str], requeued: bool
) -> None:
    job = slurm(repository, TAKES="60", **more)
    wait_until(lambda: (repository / "address").is_file())
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=30)
    assert job.returncode == 143, output
    assert ("requeue 42" in calls(repository, "scontrol")) is requeued
    assert not list((repository / "runs").iterdir())


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_slurm_job_without_an_installation_says_so(repository: Path) -> None:
    (repository / ".venv/bin/activate").unlink()
    job = slurm(repository)
    output, _ = job.communicate(timeout=30)
    assert job.returncode == 2
    assert output == f"no .venv in {repository}: run make install there and sbatch from there\n"


def test_the_slurm_job_asks_to_be_told_and_to_come_back() -> None:
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text_of("slurm.sbatch"), re.M))
    assert {"requeue", "exclusive", "open-mode"} <= set(asked)
    assert re.fullmatch(r"B:TERM@\d+", asked["signal"])  # B: this script, which passes it on
    assert asked["ntasks-per-node"] == "1"


# Nodes that a study waits for


@pytest.fixture
def one_node() -> Iterator[str]:
    ray.init("local", num_cpus=1, num_gpus=1, include_dashboard=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def with_nodes(address: str, arguments: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, str(CLUSTER / "with_nodes.py"), *arguments.split()),
            *("--", sys.executable, "-c", command),
        ],
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.ray
def test_a_command_runs_once_the_nodes_are_there(one_node: str) -> None:
    for wish in ("--nodes 1", "--gpus 1"):
        done = with_nodes(one_node, wish, "print('ran'); raise SystemExit(5)")
        assert (done.returncode, done.stdout) == (5, "ran\n"), done.stderr
    done = with_nodes(one_node, "--gpus 2 --wait 1", "print('ran')")
    assert done.returncode == 1
    assert done.stdout == "1 of 2 GPUs\n"
    assert "error: 1 of 2 GPUs were there after 1 s" in done.stderr


def test_waiting_for_nodes_needs_a_cluster() -> None:
    environment = {name: v for name, v in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, str(CLUSTER / "with_nodes.py"), "--nodes", "2", "--", "true"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "RAY_ADDRESS must name the cluster" in done.stderr


# ray up


def test_ray_up_is_valid_for_ray_itself() -> None:
    config = yaml.safe_load(text_of("ray-up.yaml"))
    validate_config(config)
    validate_config(prepare_config(config))  # with Ray's defaults filled in, as `ray up` does
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}  # trials go to the GPU nodes
    gpu = config["available_node_types"]["gpu"]
    assert gpu["resources"]["GPU"] >= 1 and gpu["max_workers"] == config["max_workers"]
    assert gpu["min_workers"] == 0 and config["idle_timeout_minutes"] > 0  # idle GPUs cost nothing


def test_ray_up_launches_its_nodes_on_a_stand_in_of_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own AWS code takes the file with the README's four values filled in, and launches."""
    for name, value in {
        "HOME": str(tmp_path),  # where Ray keeps the key pair that it makes
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        ec2, iam = boto3.client("ec2"), boto3.client("iam")
        role = "ray-autoscaler-v1"  # Ray makes it where it is missing, and then waits
        iam.create_instance_profile(InstanceProfileName=role)
        iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="dfpl", Description="dfpl", VpcId=vpc)
        image = ec2.describe_images()["Images"][0]["ImageId"]
        text = text_of("ray-up.yaml").replace("CHANGE-region", "eu-central-1")
        text = text.replace("CHANGE-image", image).replace("CHANGE-group", group["GroupId"])
        config = bootstrap_aws(prepare_config(yaml.safe_load(text)))
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for kind, node in config["available_node_types"].items():
            provider.create_node(node["node_config"], {"ray-user-node-type": kind}, 1)
        found = [r["Instances"][0] for r in ec2.describe_instances()["Reservations"]]
        volumes = [d["Ebs"] for node in found for d in node["BlockDeviceMappings"]]
    types = {(node["InstanceType"], node.get("InstanceLifecycle")) for node in found}
    assert types == {("m7i.xlarge", None), ("g6.2xlarge", "spot")}
    groups = [each["GroupName"] for node in found for each in node["SecurityGroups"]]
    assert groups == ["dfpl", "dfpl"]  # not Ray's own, which lets ssh in from everywhere
    assert all(volume["DeleteOnTermination"] for volume in volumes)


def test_ray_up_takes_the_token_and_what_pip_needs_to_every_node() -> None:
    config = yaml.safe_load(text_of("ray-up.yaml"))
    mounts = config["file_mounts"]
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    assert all((ROOT / local).exists() for local in mounts.values())
    needed = {"constraints.txt", "pyproject.toml", "README.md", "LICENSE", "dfpl"}
    assert set(mounts.values()) == needed
    setup = "\n".join(config["setup_commands"])
    assert "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token" in setup
    assert "--constraint ~/dfpl/constraints.txt" in setup
    for role in ("head", "worker"):
        for command in config[f"{role}_start_ray_commands"]:
            assert command.startswith(". ~/ray.env && ")
            checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True)
            assert checked.returncode == 0
    for command in config["setup_commands"]:
        assert subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0


# Kubernetes

KUBERAY = {
    # ray.io/v1 at KubeRay v1.7.0, docs/reference/api.md; HeadGroupSpec also raycluster_types.go
    "RayJobSpec": {
        "activeDeadlineSeconds": int,
        "backoffLimit": int,
        "clusterSelector": dict,
        "deletionStrategy": dict,
        "entrypoint": str,
        "entrypointNumCpus": float,
        "entrypointNumGpus": float,
        "entrypointResources": str,
        "jobId": str,
        "managedBy": str,
        "metadata": dict,
        "preRunningDeadlineSeconds": int,
        "rayClusterSpec": dict,
        "runtimeEnvYAML": str,
        "shutdownAfterJobFinishes": bool,
        "submissionMode": str,
        "submitterConfig": dict,
        "submitterPodTemplate": dict,
        "suspend": bool,
        "ttlSecondsAfterFinished": int,
    },
    "RayClusterSpec": {
        "authOptions": dict,
        "autoscalerOptions": dict,
        "enableInTreeAutoscaling": bool,
        "gcsFaultToleranceOptions": dict,
        "headGroupSpec": dict,
        "headServiceAnnotations": dict,
        "historyServerOptions": dict,
        "managedBy": str,
        "networkPolicy": dict,
        "rayVersion": str,
        "suspend": bool,
        "tlsOptions": dict,
        "upgradeStrategy": dict,
        "workerGroupSpecs": list,
    },
    "AuthOptions": {"enableK8sTokenAuth": bool, "mode": str, "secretName": str},
    "HeadGroupSpec": {
        "enableIngress": bool,
        "headService": dict,
        "labels": dict,
        "rayStartParams": dict,
        "resources": dict,
        "serviceType": str,
        "template": dict,
    },
    "WorkerGroupSpec": {
        "groupName": str,
        "idleTimeoutSeconds": int,
        "labels": dict,
        "maxReplicas": int,
        "minReplicas": int,
        "numOfHosts": int,
        "priority": int,
        "rayStartParams": dict,
        "replicas": int,
        "resources": dict,
        "scaleStrategy": dict,
        "suspend": bool,
        "template": dict,
    },
    # core/v1, the fields that these files use
    "PodSpec": {
        "containers": list,
        "restartPolicy": str,
        "securityContext": dict,
        "tolerations": list,
        "volumes": list,
    },
    "Container": {
        "command": list,
        "image": str,
        "name": str,
        "resources": dict,
        "volumeMounts": list,
    },
}


def check_fields(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """Every field is one that `kind` has, of its type."""
    for name, value in found.items():
        assert name in KUBERAY[kind], f"{kind} has no field {name}"
        wanted = KUBERAY[kind][name]
        assert type(value) is wanted, f"{kind}.{name} is a {wanted.__name__}, got {value!r}"
    return found


def check_pod(spec: dict[str, Any]) -> None:
    """A pod without root, whose containers say what they need and mount volumes that it has."""
    check_fields("PodSpec", spec)
    assert spec["securityContext"]["runAsNonRoot"] is True
    volumes = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"]
    }
    assert volumes == {"data": "dfpl-data", "results": "dfpl-results"}
    for container in spec["containers"]:
        check_fields("Container", container)
        assert set(container["resources"]) == {"requests", "limits"}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/results"}


def ray_job() -> dict[str, Any]:
    return yaml.safe_load(text_of("rayjob.yaml"))


def test_the_ray_job_has_fields_that_kuberay_knows() -> None:
    job = ray_job()
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", job["metadata"]["name"])
    spec = check_fields("RayJobSpec", job["spec"])
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    assert spec["backoffLimit"] > 0 and 0 < spec["activeDeadlineSeconds"] < 2**31
    assert spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] > 0
    assert "suspend" not in spec and "deletionStrategy" not in spec  # exclude what is used here
    cluster = check_fields("RayClusterSpec", spec["rayClusterSpec"])
    assert check_fields("AuthOptions", cluster["authOptions"]) == {"mode": "token"}
    head = check_fields("HeadGroupSpec", cluster["headGroupSpec"])
    check_pod(head["template"]["spec"])
    for group in cluster["workerGroupSpecs"]:
        check_fields("WorkerGroupSpec", group)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        check_pod(group["template"]["spec"])
    for group in (head, *cluster["workerGroupSpecs"]):
        assert all(type(value) is str for value in group["rayStartParams"].values())


def test_trials_of_the_ray_job_find_gpus_when_the_study_starts() -> None:
    cluster = ray_job()["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] > 0  # it counts the GPUs that it finds
    (container,) = group["template"]["spec"]["containers"]
    gpus = [container["resources"][kind]["nvidia.com/gpu"] for kind in ("requests", "limits")]
    assert gpus == ["1", "1"]


def test_the_field_check_finds_a_wrong_name_and_a_wrong_type() -> None:
    with pytest.raises(AssertionError, match="RayJobSpec has no field backOffLimit"):
        check_fields("RayJobSpec", {"backOffLimit": 3})
    with pytest.raises(AssertionError, match="backoffLimit is a int, got '3'"):
        check_fields("RayJobSpec", {"backoffLimit": "3"})


def test_volumes_are_the_claims_that_the_ray_job_mounts() -> None:
    *claims, pod = yaml.safe_load_all(text_of("volumes.yaml"))
    assert [claim["metadata"]["name"] for claim in claims] == ["dfpl-data", "dfpl-results"]
    for claim in claims:
        assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert claim["spec"]["resources"]["requests"]["storage"]
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    check_pod(pod["spec"])


# The image


def test_the_image_has_the_pinned_versions_no_root_and_only_named_files() -> None:
    code = code_of("Dockerfile")
    instructions = [
        line.split(maxsplit=1) for line in re.sub(r" +&& ", " && ", code).splitlines() if line
    ]
    by_name: dict[str, list[str]] = {}
    for name, rest in instructions:
        by_name.setdefault(name, []).append(rest)
    assert set(by_name) == {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER"}
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", by_name["FROM"][0])
    minor = int(by_name["FROM"][0].split(".")[1].split("-")[0])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert minor >= int(re.findall(r"3\.(\d+)", project["requires-python"])[0])
    copied = {word for rest in by_name["COPY"] for word in rest.split()[:-1]}
    assert all((ROOT / path).exists() for path in copied)
    assert not copied & {".", "runs", "data", ".git", ".venv"}  # a token lies in runs/
    assert {"dfpl", "studies", "constraints.txt", "pyproject.toml"} <= copied
    pips = [command for command in by_name["RUN"] if "pip install" in command]
    assert all("--no-cache-dir" in command and "constraints.txt" in command for command in pips)
    assert "RAY_AUTH_MODE=token" in by_name["ENV"][0]
    user = by_name["USER"][-1]
    assert (
        user.isdigit() and int(user) > 0 and instructions[-1][0] == "USER"
    )  # runAsNonRoot wants a number
    assert f"--uid {user}" in code


def test_the_ray_of_all_files_is_the_one_of_the_constraints() -> None:
    pinned = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert [ray_job()["spec"]["rayClusterSpec"]["rayVersion"]] == pinned


def test_all_files_name_one_image_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = "".join(text_of(name) for name in TESTS)
    assert set(re.findall(r"/dfpl:([\w.]+)", text)) == {version}
    manifests = text_of("rayjob.yaml") + text_of("volumes.yaml")
    assert set(re.findall(r"image: (\S+):", manifests)) == {"registry.example.org/dfpl"}


# Commands


@pytest.mark.parametrize("name", TESTS)
def test_the_commands_of_the_readme_name_files_and_options_that_exist(name: str) -> None:
    text = text_of(name).replace("\\\n", " ")
    for path in re.findall(r"(?<![\w.])(?:cluster|studies)/[\w./-]+\.\w+", text):
        if "NAME" not in path:
            assert (ROOT / path).is_file(), path
    for arguments in re.findall(r"studies/tune_dvm\.py ((?:--[\w-]+ [\w./:{}$-]+ ?)+)", text):
        parse(Plan(name="x", source="dvm", base={}), SearchOptions(), shlex.split(arguments))


def test_the_commands_of_the_readme_are_valid_shell() -> None:
    commands = re.findall(r"^    .*$", text_of("README.md"), re.M)
    assert len(commands) > 30
    text = "\n".join(commands).replace("FILE\n", '"$file"\n')
    done = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_value_that_is_to_be_changed_is_changed_by_a_command_of_the_readme() -> None:
    names = {name for file in TESTS for name in re.findall(r"CHANGE-\w+", text_of(file))}
    replaced = set(re.findall(r"s[/|](CHANGE-\w+)[/|]", text_of("README.md")))
    assert names == replaced
