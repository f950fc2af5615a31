"""Search DFPL's seven hyperparameters, or those of another --method, on ADNI in the nine
missing-rate scenarios of Table I.

Run       python studies/tune_adni.py --data /data/adni
          ray job submit --working-dir . -- python studies/tune_adni.py --data /data/adni
Makes     runs/tune_adni/: best.json, records/, epochs/, predictions/, ray/ (TensorBoard)
Paper     accuracy at alpha 1, beta 0.1, gamma 0.1, delta 0.2, K 5, epsilon 0.1:
          tabular-30/50/70 75.86/65.89/59.03, image 87.07/86.92/86.76, both 80.84/76.48/74.45

/data/adni holds ADNIMERGE.csv and NIfTI scans (dfpl/data/sources/adni.py). Batch 16, D 512, scans
of 128 x 128 x 128. Without --data: a look-alike and small encoders.
"""

from dfpl.study.run import main
from dfpl.study.settings import paper_plan

if __name__ == "__main__":
    main(paper_plan("tune_adni", "adni"))
