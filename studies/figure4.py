"""Figure 4: every method trained with half of the samples incomplete, tested with 10 to 90 %.

Run       python studies/figure4.py --data /data/mimic --methods dfpl,drfuse,shaspec
Makes     runs/figure4/: records/, epochs/, predictions/ of methods x seeds, all in both-50
Read by   python -m analysis.figure4 runs/figure4   (every test rate by look-up)
Paper     MIMIC, all eight methods: DFPL's PRAUC is highest at every rate; no numbers printed

Options and protocol are those of studies/table1.py: with --name table1 its runs are not repeated.
"""

import sys
from dataclasses import dataclass

from dfpl.study import comparison
from dfpl.study.comparison import plan_of, runs
from dfpl.study.run import sweep_main


@dataclass(frozen=True, kw_only=True)
class Options(comparison.Options):
    scenarios: str = "both-50"
    """Where the methods are trained."""


if __name__ == "__main__":
    sweep_main(plan_of("figure4", sys.argv[1:], "mimic"), runs, "analysis.figure4", Options())
