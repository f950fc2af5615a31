"""Table IV: PFA with either alignment loss and with both, and each kind of class prototypes.

Run       python -m analysis.table4 runs/table4
          python -m analysis.table4 runs/table4 --format latex --out table4.tex
Reads     the records and predictions that studies/table4.py left there; the paper's numbers
Prints    per row the mean over seeds with its 95 % interval, the paper's value where the data is
          DVM-CAR, and the difference to the row with both with its own
"""

from analysis.ablation_table import main
from dfpl.ablation import TABLE4

if __name__ == "__main__":
    main(TABLE4, __doc__)
