"""The report of a folder of runs: one HTML file that needs nothing beside it.

Run       dfpl report RUN_DIR [--out FILE.html]
Reads     the records of RUN_DIR, and the predictions and epochs of the runs that it looks at
          closely: the best of each scenario and the paper's point, or each config of a sweep
Makes     RUN_DIR/report.html: what was run, results, robustness over the missing rate, classes and
          what each modality contributes, hyperparameters, failures, how to reproduce

Python builds what is shown as JSON (`build`), JavaScript draws it (`page`). Scores and texts are
inserted as text, never as HTML; the page has no name of a sample or a group in it, and its policy
(CSP) lets it load nothing.
"""

from pathlib import Path
from typing import Any

from analysis.report import (
    classes,
    comparison,
    failures,
    overview,
    reproduce,
    results,
    robustness,
    tuning,
)
from analysis.report.lines import lines_of
from analysis.report.page import page
from analysis.report.scores import Scored, score_lines
from analysis.report.study import Study
from dfpl.storage import Storage

REPORT = "report.html"


def build(study: Study) -> dict[str, Any]:
    """What the page shows, as JSON can hold it."""
    scored: list[Scored] = score_lines(study.store, lines_of(study), study.metric)
    fifth = tuning.build(study) if study.is_search else comparison.build(study, scored)
    sections = [
        overview.build(study),
        results.build(study, scored),
        robustness.build(study, scored),
        classes.build(study, scored),
        fifth,
        failures.build(study),
        reproduce.build(study, scored),
    ]
    return {"title": study.store.name, "subtitle": study.subtitle, "sections": sections}


def write(run_dir: str, out: str = "") -> str:
    """Write the report of a folder of runs; returns where it is. Raises ConfigError where there is
    no record."""
    study = Study.read(run_dir)
    target = Path(out).expanduser() if out else None
    folder = Storage(target.parent) if target else study.store.root
    name = target.name if target else REPORT
    folder.write(name, page(build(study)).encode())
    return f"{folder.shown}/{name}"
