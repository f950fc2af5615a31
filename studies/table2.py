"""Table II: SSPM, PFA and CMA added one by one to the baseline, coarse alignment alone.

Run       python studies/table2.py --data /data/dvm
          python studies/table2.py --data /data/dvm --from studies/best/dvm_dfpl.json
          python studies/table2.py --table my.csv --images my_images/ --label diagnosis \\
              --group patient_id --scenarios both-50,image-70
Makes     runs/table2/: records/, epochs/, predictions/ of 4 configs x scenarios x seeds
Read by   python -m analysis.table2 runs/table2
Paper     DVM-CAR 89.67, 91.32, 93.47, 94.50; ADNI 74.14 to 76.48; MIMIC (PRAUC) 37.70 to 40.22

The rows are in dfpl/ablation.py. With --name ablations for Tables II to V alike, what stands in
several of them is trained once.
"""

from dfpl.ablation import TABLE2
from dfpl.study.ablation import main

if __name__ == "__main__":
    main(TABLE2)
