"""Table V: concatenation, addition and CMA, and CMA with either scale and with both.

Run       python studies/table5.py --data /data/dvm
          python studies/table5.py --data /data/dvm --from studies/best/dvm_dfpl.json
Makes     runs/table5/: records/, epochs/, predictions/ of 5 configs x scenarios x seeds;
          CMA is the one with both scales
Read by   python -m analysis.table5 runs/table5
Paper     DVM-CAR: concatenation 93.47, addition 92.50, CMA 94.50; global 93.24, prototype 93.67

The rows are in dfpl/ablation.py. With --name ablations for Tables II to V alike, what stands in
several of them is trained once.
"""

from dfpl.ablation import TABLE5
from dfpl.study.ablation import main

if __name__ == "__main__":
    main(TABLE5)
