"""Table III: SSPM without and with the diversity loss, and with several numbers of prototypes.

Run       python -m analysis.table3 runs/table3
          python -m analysis.table3 runs/table3 --format latex --out table3.tex
Reads     the records and predictions that studies/table3.py left there; the paper's numbers
Prints    per row the mean over seeds with its 95 % interval, the paper's value where the data is
          DVM-CAR, and the difference to the row with L_div, or to K = 5, with its own
"""

from analysis.ablation_table import main
from dfpl.ablation import TABLE3

if __name__ == "__main__":
    main(TABLE3, __doc__)
