"""Search DFPL's seven hyperparameters, or those of another --method, on DVM-CAR in the nine
missing-rate scenarios of Table I.

Run       python studies/tune_dvm.py --data /data/dvm
          ray job submit --working-dir . -- python studies/tune_dvm.py --data /data/dvm
Makes     runs/tune_dvm/: best.json, records/, epochs/, predictions/, ray/ (TensorBoard)
Paper     accuracy at alpha 1, beta 0.1, gamma 0.1, delta 0.2, K 5, epsilon 0.1:
          tabular-30/50/70 95.54/93.43/92.59, image 98.23/97.66/97.50, both 96.24/94.50/92.63
"""

from dfpl.study.run import main
from dfpl.study.settings import paper_plan

if __name__ == "__main__":
    main(paper_plan("tune_dvm", "dvm"))
