"""Search DFPL's seven hyperparameters on DVM-CAR, in the nine missing-rate scenarios of Table I.

Run       python studies/tune_dvm.py --data /data/dvm
          ray job submit --working-dir . -- python studies/tune_dvm.py --data /data/dvm
Makes     runs/tune_dvm/: best.json, records/, epochs/, predictions/, ray/ (TensorBoard)
Paper     accuracy at alpha 1, beta 0.1, gamma 0.1, delta 0.2, K 5, epsilon 0.1:
          tabular-30/50/70 95.54/93.43/92.59, image 98.23/97.66/97.50, both 96.24/94.50/92.63
"""

from dfpl.study.plan import Plan
from dfpl.study.run import main

PAPER = {
    "method.width": 512,
    "method.image_network": "resnet50",
    "method.task_loss": "bce",
    "optim.batch_size": 256,
    "optim.epochs": 100,
    "metric": "accuracy",
}
ON_TWIN = {
    "source.image_size": 32,
    "method.width": 32,
    "method.image_network": "small",
    "method.tabular_heads": 4,
    "method.tabular_shared_depth": 1,
    "method.tabular_branch_depth": 1,
    "optim.batch_size": 16,
    "optim.epochs": 18,
    "optim.learning_rate": 3e-3,
}

if __name__ == "__main__":
    main(Plan(name="tune_dvm", source="dvm", base=PAPER, on_twin=ON_TWIN))
