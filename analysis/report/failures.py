"""Section 6: what failed or was stopped, by reason."""

from collections.abc import Sequence

from analysis.report.blocks import Block, section, table, text
from analysis.report.study import Study
from dfpl.study.failures import NUMBER, one_line
from dfpl.study.records import Record

MOST_IDS, MOST_REASONS = 8, 50


def build(study: Study) -> Block:
    how = (
        "Runs without a final score, by reason; reasons that differ in their numbers alone count "
        "together, and the first one is shown."
    )
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in study.records:
        if record.state != "complete":
            kind = NUMBER.sub("#", one_line(record.reason))
            groups.setdefault((record.state, kind), []).append(record)
    if not groups:
        none = f"All {len(study.records):,} runs are complete."
        return section("failures", "Failed and stopped runs", how, [text(none)])
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] != "failed", -len(item[1])))
    rows = [
        [state, one_line(own[0].reason) or "no reason was noted", _ids(own), f"{len(own):,}"]
        for (state, _), own in ordered[:MOST_REASONS]
    ]
    more = len(ordered) - MOST_REASONS
    notes = [f"{more} rarer reasons are left out."] if more > 0 else []
    columns = ["state", "reason", "runs", "count"]
    return section(
        "failures", "Failed and stopped runs", how, [table(columns, rows, names=3, notes=notes)]
    )


def _ids(records: Sequence[Record]) -> str:
    shown = ", ".join(record.run_id for record in records[:MOST_IDS])
    more = len(records) - MOST_IDS
    return f"{shown} and {more:,} more" if more > 0 else shown
