"""Table V: concatenation, addition and CMA, and CMA with either scale and with both.

Run       python -m analysis.table5 runs/table5
          python -m analysis.table5 runs/table5 --format latex --out table5.tex
Reads     the records and predictions that studies/table5.py left there; the paper's numbers
Prints    per row the mean over seeds with its 95 % interval, the paper's value where the data is
          DVM-CAR, and the difference to CMA with both scales with its own
"""

from analysis.ablation_table import main
from dfpl.ablation import TABLE5

if __name__ == "__main__":
    main(TABLE5, __doc__)
