"""Search DFPL's seven hyperparameters, or those of another --method, on your own table and images.

Run       python studies/tune_table.py --table my.csv --images my_images/ --label diagnosis \\
              --group patient_id --scenarios both-50
Makes     runs/tune_table/: best.json, records/, epochs/, predictions/, ray/ (TensorBoard)
Paper     has none for your data; its hyperparameters are the first trial of each scenario
"""

from dfpl.study.plan import table_plan
from dfpl.study.run import main
from dfpl.study.settings import OWN_TABLE

if __name__ == "__main__":
    main(table_plan("tune_table", OWN_TABLE))
