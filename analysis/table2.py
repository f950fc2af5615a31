"""Table II: the baseline, and SSPM, PFA and CMA added one by one.

Run       python -m analysis.table2 runs/table2
          python -m analysis.table2 runs/mimic runs/dvm --format latex --out table2.tex
Reads     the records and predictions that studies/table2.py left in each
          RUN_DIR; the paper's numbers
Prints    per row and data set the mean over seeds with its 95 % interval, the paper's value where
          the data set is one of its, and the difference to the row above with its own
"""

from analysis.ablation_table import Head, main
from dfpl.ablation import TABLE2

MODULES = ["SSPM", "PFA", "CMA"]
HEAD = Head(MODULES, lambda _, name: ["yes" if module in name else "no" for module in MODULES])

if __name__ == "__main__":
    main(TABLE2, __doc__, HEAD)
