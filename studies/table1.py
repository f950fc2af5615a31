"""Table I: every method in every scenario with several seeds, under one protocol.

Run       python studies/table1.py --data /data/dvm --tuned runs/tune_dvm,runs/tune_dvm_drfuse
          python studies/table1.py --table my.csv --images my_images/ --label diagnosis \\
              --group patient_id --scenarios both-50,image-50 --methods dfpl,drfuse,table_only
Makes     runs/table1/: records/, epochs/, predictions/ of methods x scenarios x seeds
Read by   python -m analysis.table1 runs/table1
Paper     the mean over its nine scenarios of DVM-CAR: DFPL 95.4, DrFuse 92.0, ShaSpec 91.1

Data, masks, encoders, optimisation and selection are the same for all. What else a method has is
as in its own paper or, with --tuned, as found by a search: python studies/tune_dvm.py --method
NAME. --method.FIELD speaks of DFPL, and of every method where FIELD is one of the encoders'.
"""

import sys

from dfpl.study.comparison import Options, plan_of, runs
from dfpl.study.run import sweep_main

if __name__ == "__main__":
    sweep_main(plan_of("table1", sys.argv[1:]), runs, "analysis.table1", Options())
