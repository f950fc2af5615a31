"""Search DFPL's seven hyperparameters, or those of another --method, on MIMIC-IV + MIMIC-CXR in the
nine missing-rate scenarios of Table I.

Run       python studies/tune_mimic.py --data /data/mimic
          ray job submit --working-dir . -- python studies/tune_mimic.py --data /data/mimic
Makes     runs/tune_mimic/: best.json, records/, epochs/, predictions/, ray/ (TensorBoard)
Paper     macro PRAUC at alpha 1, beta 0.1, gamma 0.1, delta 0.2, K 5, epsilon 0.1:
          tabular-30/50/70 40.63/38.43/36.00, image 42.73/42.25/42.06, both 41.67/40.22/37.62

/data/mimic holds the benchmark's files and films, or raw MIMIC-IV (dfpl/data/sources/mimic.py).
Batch 16, D 256, films of 224 x 224. Without --data: a look-alike and small encoders.
"""

from dfpl.study.run import main
from dfpl.study.settings import paper_plan

if __name__ == "__main__":
    main(paper_plan("tune_mimic", "mimic"))
