"""What configs of a list of runs are called: their method, their row of an ablation, or what
differs."""

import json
from collections import Counter
from typing import Any

from analysis.ablation import settings
from analysis.report.study import Study
from analysis.table1 import label, methods_of
from dfpl.ablation import TABLE2, TABLE3, TABLE4, TABLE5
from dfpl.fields import flatten

MOST = 3
"""Differences that are named."""


def labels_of(study: Study) -> dict[str, str]:
    """By config, as text: methods in the order of the paper, rows in that of the tables."""
    configs = {
        json.dumps(s, sort_keys=True): s for s in (settings(r.config) for r in study.records)
    }
    counts = Counter(config["method.name"] for config in configs.values())
    base = settings(study.facts.get("base", {}))
    rows = _rows_of_ablations(study, base)
    found = {}
    for name, config in configs.items():
        method = config["method.name"]
        others = [c for c in configs.values() if c["method.name"] == method]
        start = base if base.get("method.name") == method else others[0]
        if counts[method] == 1:
            found[name] = label(method)
        else:
            found[name] = rows.get(name) or f"{label(method)}{_differences(config, start)}"
    order = methods_of(study.records, {})
    places = {name: place for place, name in enumerate(rows)}
    keys = {
        name: (order.index(configs[name]["method.name"]), places.get(name, -1), words)
        for name, words in found.items()
    }
    return {name: found[name] for name in sorted(found, key=keys.__getitem__)}


def _rows_of_ablations(study: Study, base: dict[str, Any]) -> dict[str, str]:
    """Names of the configs that the ablations of this folder have; of several the first."""
    swept = {record.search for record in study.records}
    found: dict[str, str] = {}
    for table in (TABLE2, TABLE3, TABLE4, TABLE5):
        if base and table.name in swept:
            number = table.title.partition(":")[0].removeprefix("Table ")
            for row in table.rows:
                config = json.dumps({**base, **row.values}, sort_keys=True)
                found.setdefault(config, f"{number} {row.group}: {row.name}")
    return found


def _differences(config: dict[str, Any], start: dict[str, Any]) -> str:
    changed = [name for name in config if config[name] != start.get(name)]
    if not changed:
        return " as given"
    shown = [
        f"{name.removeprefix('method.')} = {_written(config[name])}" for name in changed[:MOST]
    ]
    more = f" and {len(changed) - MOST} more" if len(changed) > MOST else ""
    return f", {', '.join(shown)}{more}"


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {own}" for name, own in flatten(value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
