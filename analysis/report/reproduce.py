"""Section 7: the commands that make these numbers again."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from analysis.report.blocks import Block, code, section, text
from analysis.report.scores import Scored
from analysis.report.study import Study
from dfpl.study.records import Record

PINNED = ("torch", "ray", "optuna", "numpy", "monai", "torchmetrics")


def build(study: Study, scored: Sequence[Scored]) -> Block:
    how = (
        "The same code, versions, data and config give the same numbers on the same kind of "
        "machine; compare the hashes of code and data first."
    )
    blocks = [*_code(study.records), *_data(study.records), *_runs(study, scored)]
    return section("reproduce", "How to reproduce", how, [*blocks, *_facts(study)])


def _code(records: Sequence[Record]) -> Iterator[Block]:
    """The versions of most runs."""
    often = Counter(tuple(sorted(record.versions.items())) for record in records)
    versions = dict(often.most_common(1)[0][0])
    if len(often) > 1:
        yield text(f"The runs have {len(often)} sets of versions; the most frequent one follows.")
    if versions.get("commit"):
        yield code(f"git checkout {versions['commit']}", "Code")
    pinned = [f"{name}=={v}" for name in PINNED if (v := versions.get(name))]
    if pinned:
        python = versions.get("python", "")
        yield code(f"python -m pip install {' '.join(pinned)}", f"Versions, with Python {python}")


def _data(records: Sequence[Record]) -> Iterator[Block]:
    last = records[-1]
    yield text(
        f"Data: {last.config['dataset']}, packed with hash {last.config['data_hash']}"
        f"{f', in {last.data}' if last.data else ''}. dfpl data pack makes it."
    )


def _runs(study: Study, scored: Sequence[Scored]) -> Iterator[Block]:
    folder = shlex.quote(study.folder)
    data = shlex.quote(study.records[-1].data or "DATA")
    if study.is_search:
        yield code(f"dfpl best {folder}", "The best configs")
        for own in scored:
            if own.line.records and not own.line.paper:
                yield code(_train(folder, data, own), f"{own.line.scenario}: {own.line.label}")
        yield code(f"dfpl evaluate model --data {data} --scenarios all,curves", "Scores of a model")
    for name in dict.fromkeys(record.search for record in study.records):
        if name.isidentifier() and find_spec(f"analysis.{name}"):
            yield code(f"python -m analysis.{name} {folder}", f"The paper's {name}")
    yield code(f"dfpl report {folder}", "This page")


def _train(folder: str, data: str, own: Scored) -> str:
    record = own.line.records[0]
    chosen = f"--scenario {record.scenario} --trial {record.trial}"
    return f"dfpl train {folder}/best.json {chosen} --data {data} --out model"


def _facts(study: Study) -> Iterator[Block]:
    if study.facts:
        yield code(json.dumps(study.facts, indent=1), "study.json: the base config and the search")
    yield text("Each run's whole config is in records/RUN_ID.json, under config.")
