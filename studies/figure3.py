"""Figure 3: every method trained with 10 to 90 % of the samples incomplete, in two patterns.

Run       python studies/figure3.py --data /data/mimic --methods dfpl,drfuse,shaspec
Makes     runs/figure3/: records/, epochs/, predictions/ of methods x 18 scenarios x seeds
Read by   python -m analysis.figure3 runs/figure3   (tests at 90 % by look-up; no further training)
Paper     MIMIC, all eight methods: DFPL's PRAUC changes little from 20 to 60 %, the others' more

Options and protocol are those of studies/table1.py: with --name table1 its runs are not repeated.
"""

import sys
from dataclasses import dataclass

from dfpl.data.scenario import CURVES
from dfpl.study import comparison
from dfpl.study.comparison import plan_of, runs
from dfpl.study.run import sweep_main


@dataclass(frozen=True, kw_only=True)
class Options(comparison.Options):
    scenarios: str = ",".join(str(s) for s in CURVES if s.pattern in ("both", "tabular"))
    """Where the methods are trained."""


if __name__ == "__main__":
    sweep_main(plan_of("figure3", sys.argv[1:], "mimic"), runs, "analysis.figure3", Options())
