"""Table III: SSPM without and with the diversity loss, and with 3, 5, 10, 15 prototypes.

Run       python studies/table3.py --data /data/dvm
          python studies/table3.py --data /data/dvm --from studies/best/dvm_dfpl.json
Makes     runs/table3/: records/, epochs/, predictions/ of 5 configs x scenarios x seeds;
          K = 5 is the one with L_div, if the base run has it
Read by   python -m analysis.table3 runs/table3
Paper     DVM-CAR: without L_div 90.50, with it 91.32; K = 3 89.25, 5 91.32, 10 90.34, 15 89.61

The rows are in dfpl/ablation.py. With --name ablations for Tables II to V alike, what stands in
several of them is trained once.
"""

from dfpl.ablation import TABLE3
from dfpl.study.ablation import main

if __name__ == "__main__":
    main(TABLE3)
