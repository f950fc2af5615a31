#!/usr/bin/env bash
# Run the main job on this machine: a Ray head on 127.0.0.1, the study as a Ray job, the head ended.
# Usage: bash cluster/local.sh VENV_BIN NAME [options of studies/tune_dvm.py]
set -euo pipefail
bin=$(cd "$1" && pwd)
name=$2
shift 2
export PATH="$bin:$PATH"  # the job's python is the one of the shell that starts the head
here=$(cd "$(dirname "$0")/.." && pwd)
runs="$here/runs"
mkdir -p "$runs"

# Only who can read this file may submit jobs: a Ray head runs whatever it is sent.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$runs/.ray_token"
[ -s "$RAY_AUTH_TOKEN_PATH" ] || (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
unset RAY_AUTH_TOKEN RAY_ADDRESS
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0  # else Ray takes 127.0.0.1 for this machine's address and listens on all
export RAY_USAGE_STATS_ENABLED=0 RAY_DEDUP_LOGS=1 PYTHONUNBUFFERED=1

read -r port dashboard agent < <(python - <<'PY'
import socket
free = [socket.socket() for _ in range(3)]
for s in free:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in free))
PY
)
log="$runs/ray_head.log"
temp=$(mktemp -d /tmp/dfpl-ray.XXXXXX)
ray start --head --block --node-ip-address=127.0.0.1 --port="$port" --dashboard-host=127.0.0.1 \
    --dashboard-port="$dashboard" --dashboard-agent-listen-port="$agent" --temp-dir="$temp" --min-worker-port=0 --max-worker-port=0 >"$log" 2>&1 &
head=$!
finish() {
    kill "$head" 2>/dev/null || true
    wait "$head" 2>/dev/null || true
    for _ in $(seq 20); do  # its processes write for a moment longer
        rm -rf "$temp" 2>/dev/null && return 0
        sleep 0.5
    done
    echo "left behind: $temp" >&2
}
trap finish EXIT
address="http://127.0.0.1:$dashboard"
for _ in $(seq 60); do  # the head can take jobs only some seconds after it answers
    ray job submit --address "$address" --no-wait -- true >>"$log" 2>&1 && ready=yes && break
    kill -0 "$head" 2>/dev/null || { cat "$log" >&2; exit 1; }
    sleep 1
done
[ "${ready:-}" = yes ] || { echo "the Ray head took no job within 60 s; see $log" >&2; exit 1; }
echo "Ray head on 127.0.0.1:$port, dashboard $address, log $log"

cd "$here"
ray job submit --address "$address" --working-dir . -- \
    python studies/tune_dvm.py --storage "$runs" --name "$name" "$@" 2>>"$log"
