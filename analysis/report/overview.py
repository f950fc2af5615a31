"""Section 1: what was run, on what, with which code, and what it cost."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from analysis.report.blocks import Block, duration, facts, section, several, table
from analysis.report.study import Study
from analysis.table1 import label, method_of, scenarios_of
from dfpl.study.records import Record
from dfpl.study.session import read_sessions

ROUNDED = 12
"""Digits of a hash that are shown."""


def build(study: Study) -> Block:
    how = (
        "Which data, code and machine the numbers below come from, and what they cost; a run is "
        "one config trained once."
    )
    blocks = [facts(_about(study)), _by_search(study), *_space(study)]
    return section("run", "What was run", how, blocks)


def _about(study: Study) -> list[tuple[str, str]]:
    records = study.records
    configs = [record.config for record in records]
    dates = [record.finished_at for record in records if record.finished_at]
    return [
        ("Study", study.store.name),
        ("Data set", _kinds([config["dataset"] for config in configs])),
        ("Hash of the data", _kinds([config["data_hash"] for config in configs])),
        ("Metric", f"{study.metric_words}, chosen on validation, reported on test"),
        ("Methods", _kinds([label(method_of(record)) for record in records])),
        ("Scenarios", ", ".join(scenarios_of(records))),
        ("Objective", _objective(study)),
        ("Seeds", _kinds(sorted({config["seed"] for config in configs}))),
        ("Runs", f"{several(len(records), 'record')}; {_states(records)}{_asked(study)}"),
        ("Epochs", _epochs(records)),
        ("Training time", _cost(records)),
        ("Finished", _between(dates)),
        ("Code", _code(records)),
        ("Versions", _versions(records)),
        ("Machine", _machine(records)),
    ]


def _kinds(values: Sequence[Any]) -> str:
    """The different values, the most frequent first."""
    return ", ".join(str(value) for value, _ in Counter(values).most_common())


def _objective(study: Study) -> str:
    if not study.is_search:
        return "none: a list of runs"
    wanted = study.facts["objective"]
    words = {
        "each": "a config of its own for each scenario",
        "mean": "one config, mean over the scenarios",
        "worst": "one config, its worst scenario",
        "cvar": f"one config, mean of the worst {100 * wanted.get('share', 1 / 3):.0f} %",
        "pareto": "complete data against the worst scenario",
    }[wanted["kind"]]
    seeds = wanted.get("seeds", 1)
    return f"{words}{f', mean over {seeds} seeds' if seeds > 1 else ''}"


def _states(records: Sequence[Record]) -> str:
    counts = Counter(record.state for record in records)
    return ", ".join(f"{counts[state]:,} {state}" for state in ("complete", "pruned", "failed"))


def _asked(study: Study) -> str:
    """What drivers were asked for, where not all of it has ended."""
    wanted: Counter[str] = Counter()
    for session, _ in read_sessions(study.store.root):
        wanted.update(session.trials)
    ended = Counter(search for search, _ in {(r.search, r.trial) for r in study.records})
    left = sum(max(0, count - ended[name]) for name, count in wanted.items())
    return f"; {several(left, 'trial')} not ended yet" if left else ""


def saved(record: Record) -> int:
    """Epochs that a pruned run would have trained had it been whole."""
    whole = record.config.get("optim", {}).get("epochs", record.epochs)
    return max(0, whole - record.epochs) if record.state == "pruned" else 0


def _epochs(records: Sequence[Record]) -> str:
    trained, less = sum(r.epochs for r in records), sum(map(saved, records))
    share = f" ({100 * less / (trained + less):.0f} %)" if less else ""
    return f"{trained:,} trained, {less:,} saved by stopping{share}"


def _cost(records: Sequence[Record]) -> str:
    seconds = sorted(record.seconds for record in records if record.seconds)
    if not seconds:
        return ""
    middle = (seconds[len(seconds) // 2] + seconds[-1 - len(seconds) // 2]) / 2
    workers = sum(record.seconds * record.workers for record in records)
    of_workers = f"; {duration(workers)} of workers" if workers > sum(seconds) else ""
    return f"{duration(sum(seconds))} in all, {duration(middle)} per run (median){of_workers}"


def _between(dates: Sequence[str]) -> str:
    if not dates:
        return ""
    first, last = (moment[:16].replace("T", " ") for moment in (min(dates), max(dates)))
    return f"{first} to {last} UTC" if first != last else f"{last} UTC"


def _code(records: Sequence[Record]) -> str:
    found = [(r.versions.get("commit", ""), r.versions.get("code", "")) for r in records]
    several_of = [
        f"{f'commit {commit}, ' if commit else ''}hash {code[:ROUNDED]}"
        for (commit, code), _ in Counter(found).most_common()
        if commit or code
    ]
    return "; ".join(several_of)


def _versions(records: Sequence[Record]) -> str:
    names = [n for n in dict.fromkeys(n for r in records for n in r.versions)]
    names = [name for name in names if name not in ("code", "commit", "machine")]
    found = {name: _kinds([v for r in records if (v := r.versions.get(name))]) for name in names}
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def _machine(records: Sequence[Record]) -> str:
    devices = _kinds([record.device for record in records])
    machines = _kinds([m for r in records if (m := r.versions.get("machine"))])
    workers = _kinds([f"{several(r.workers, 'worker')} of {r.threads} CPU" for r in records])
    precision = _kinds([p for r in records if (p := r.compute.get("precision"))])
    return ", ".join(part for part in (devices, machines, workers, precision) if part)


def _by_search(study: Study) -> Block:
    """One row per search and scenario, or per sweep and scenario."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in study.records:
        groups.setdefault((record.search, record.scenario), []).append(record)
    order = scenarios_of(study.records)
    rows = [
        [
            search,
            scenario,
            *(f"{sum(r.state == state for r in own):,}" for state in STATES),
            f"{sum(r.epochs for r in own):,}",
            f"{sum(map(saved, own)):,}",
            duration(sum(r.seconds for r in own)),
        ]
        for (search, scenario), own in sorted(
            groups.items(), key=lambda item: (item[0][0], order.index(item[0][1]))
        )
    ]
    columns = ["search" if study.is_search else "list", "scenario", *STATES]
    columns += ["epochs trained", "epochs saved", "time"]
    return table(columns, rows, "Runs by state", names=2)


STATES = ("complete", "pruned", "failed")


def _space(study: Study) -> list[Block]:
    """The hyperparameters that were searched, and where."""
    space = study.facts.get("space")
    if not space:
        return []
    paper = {}
    for record in study.records:
        if record.trial == 0:
            paper = record.config
    rows = [[name, _range(wanted), _at(paper, name)] for name, wanted in space.items()]
    return [table(["hyperparameter", "searched", "paper's point"], rows, "Search space", names=3)]


def _range(wanted: Any) -> str:
    match wanted:
        case [list() as values]:
            return ", ".join(map(str, values))
        case [low, high, log]:
            return f"{low:g} to {high:g}{', log scale' if log else ''}"
        case [low, high]:
            return f"{low} to {high}, whole numbers"
    return str(wanted)


def _at(config: dict[str, Any], name: str) -> str:
    found: Any = config
    for part in name.split("."):
        found = found.get(part, "") if isinstance(found, dict) else ""
    return f"{found:g}" if isinstance(found, float) else str(found)
