"""Table IV: PFA with either alignment loss and with both, and each kind of class prototypes.

Run       python studies/table4.py --data /data/dvm
          python studies/table4.py --data /data/dvm --from studies/best/dvm_dfpl.json
Makes     runs/table4/: records/, epochs/, predictions/ of 5 configs x scenarios x seeds;
          L_cali alone is the one with both kinds of class prototypes
Read by   python -m analysis.table4 runs/table4
Paper     DVM-CAR: L_pali 92.72, L_cali 93.10, both 93.47; global 92.23, prototype 92.52, both 93.10

The rows are in dfpl/ablation.py. With --name ablations for Tables II to V alike, what stands in
several of them is trained once.
"""

from dfpl.ablation import TABLE4
from dfpl.study.ablation import main

if __name__ == "__main__":
    main(TABLE4)
