"""Figure 4: methods trained with half of the samples incomplete, tested from 10 to 90 %.

Run       python -m analysis.figure4 RUN_DIR
Reads     the records and predictions of any list of runs that has some in --trained; nothing is
          trained for it. studies/figure4.py and studies/table1.py make such runs
Makes     figure4.svg, .png and .csv in RUN_DIR or in --out: one panel per pattern, over the rate in
          the test; each point the mean over seeds on the test split, with a 95 % interval (mask
          draws, bootstrap over groups, for the seeds given)
Paper     MIMIC, PRAUC, no numbers printed

The logits of every test sample with both modalities, the image alone and the table alone are
stored with a run: a rate only picks among them.
"""

import sys
from dataclasses import dataclass

import pandas as pd
import tyro

from analysis import curves
from analysis.curves import by_method, draw, place, read, rows_of, scored, write
from analysis.table1 import methods_of, scenarios_of
from dfpl.config import Metric
from dfpl.data.scenario import CURVES
from dfpl.fields import ConfigError
from dfpl.predictions import PredictionError
from dfpl.study.records import RecordStore

TRAINED = "both-50"


@dataclass(frozen=True, kw_only=True)
class Options(curves.Options):
    trained: str = TRAINED
    """Scenario of the runs."""


def build(store: RecordStore, metric: Metric | None = None, trained: str = TRAINED) -> pd.DataFrame:
    """One row per method, pattern and rate in the test; scores as fractions. Raises ConfigError
    where no run was trained in that scenario."""
    records, chosen = read(store, metric)
    here = [record for record in records if record.scenario == trained]
    if not here:
        known = ", ".join(scenarios_of(records))
        raise ConfigError(f"no run of {store.root} was trained in {trained}; there are {known}")
    found = by_method(here)
    rows = [
        {
            "trained": trained,
            "pattern": scenario.pattern,
            "rate": scenario.rate,
            "method": method,
            **row,
        }
        for method in methods_of(here, {})
        for scenario, row in zip(CURVES, rows_of(store, found[method], CURVES, chosen), strict=True)
    ]
    return scored(rows, here, chosen)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    store = RecordStore(options.run_dir)
    try:
        frame = build(store, options.metric, options.trained)
    except (ConfigError, PredictionError) as error:
        sys.exit(f"error: {error}")
    figure = draw(frame, "samples incomplete in the test (%)", f"Trained in {options.trained}")
    write(frame, figure, place(options, store), "figure4")


if __name__ == "__main__":
    main()
