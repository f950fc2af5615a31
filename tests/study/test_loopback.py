"""A Ray that a study starts for itself listens on loopback alone."""

import os
import subprocess
import sys

import pytest

LISTENING = """
from dfpl.study.run import connect
connect()
import psutil, ray  # Ray brings psutil along
family = psutil.Process().children(recursive=True)
for process in [psutil.Process(), *family]:
    try:
        for one in process.net_connections("tcp"):
            if one.status == "LISTEN":
                print("listens", process.name(), one.laddr.ip)
    except psutil.Error:
        pass
print("nodes", [node["NodeManagerAddress"] for node in ray.nodes()])
"""


@pytest.mark.ray
@pytest.mark.timeout(200)
def test_all_sockets_of_a_ray_of_our_own_are_on_loopback() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], env=clean, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    places = {line[-1].removeprefix("::ffff:") for line in lines if line[0] == "listens"}
    assert places == {"127.0.0.1"}
    assert ["nodes", "['127.0.0.1']"] in lines
