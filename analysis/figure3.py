"""Figure 3: methods trained with more and more samples incomplete, tested with 90 % of them.

Run       python -m analysis.figure3 runs/figure3
Reads     the records and predictions that studies/figure3.py, or studies/table1.py, left in RUN_DIR
Makes     figure3.svg, .png and .csv in RUN_DIR or in --out: one panel per pattern, over the rate in
          training; each point the mean over seeds on the test split at 90 % of the same pattern,
          with a 95 % interval (mask draws, bootstrap over groups, for the seeds given)
Paper     (a) both modalities missing in training, (b) the table; MIMIC, PRAUC, no numbers printed
"""

import sys

import pandas as pd
import tyro

from analysis.curves import Options, by_method, draw, place, read, rows_of, scored, write
from analysis.table1 import methods_of, scenarios_of
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.predictions import PredictionError
from dfpl.study.records import RecordStore

TESTED = 0.9
"""Share of the test samples that are incomplete."""


def build(store: RecordStore, metric: Metric | None = None) -> pd.DataFrame:
    """One row per pattern, rate in training and method; scores as fractions."""
    records, chosen = read(store, metric)
    rows = []
    for name in scenarios_of(records):
        trained = Scenario.parse(name)
        tested = Scenario(pattern=trained.pattern, rate=TESTED)
        found = by_method([record for record in records if record.scenario == name])
        for method in methods_of(records, {}):
            facts = {"pattern": trained.pattern, "rate": trained.rate, "method": method}
            if method in found:
                rows += [
                    {**facts, **row} for row in rows_of(store, found[method], [tested], chosen)
                ]
    return scored(rows, records, chosen)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    store = RecordStore(options.run_dir)
    try:
        frame = build(store, options.metric)
    except (ConfigError, PredictionError) as error:
        sys.exit(f"error: {error}")
    title = f"Tested with {100 * TESTED:g} % of the samples incomplete, in the same way"
    figure = draw(frame, "samples incomplete in training (%)", title)
    write(frame, figure, place(options, store), "figure3")


if __name__ == "__main__":
    main()
