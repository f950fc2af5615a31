"""The whole objective of DFPL in plain NumPy, one sample at a time: what the model is held against.

Written from the specification alone, in float64, starting where the encoders end. Whatever belongs
to a missing modality is kept as NaN, so a result that read it would be NaN too.

B samples, N tokens (of one modality), K prototypes per branch, D width, C classes; a dimension
named 4D, 2D or R*D is that product, R the number of evidence rows that `scale` keeps (6 or 3).

Inputs of `evaluate`, by name. Tokens: one (B, N, D) array for each of BRANCHES. Weights; every
matrix acts from the right, as in `x @ W`:

    <branch>.queries          (K, D)    F of Eq. 2, for each of BRANCHES
    <branch>.W_q, W_k, W_v    (D, D)
    <branch>.W1, b1           (D, 4D), (4D,)
    <branch>.W2, b2           (4D, D), (D,)
    gate                      (2D,)     w of Eq. 7: first D for the global, last D for the prototype
    aggregation.queries       (C, D)    Q_class of Eq. 11
    aggregation.W_q, W_k, W_v (D, D)
    classifier.weight         (C, D) for fusion "cma", (R*D, C) for "concat", (D, C) for "add"
    classifier.bias           (C,)

`gate` is read for class_prototypes "gated" only, `aggregation.*` for fusion "cma" only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import erf, expit, logsumexp

Array = np.ndarray
Tokens = Mapping[str, Float[Array, "B N D"]]
Weights = Mapping[str, Float[Array, "..."]]
Label = Int[Array, " B"] | Float[Array, "B C"]

BRANCHES = ("image_shared", "image_specific", "tabular_shared", "tabular_specific")
MODALITIES = ("image", "tabular")  # the columns of `available`, in this order
ROWS = {"both": (0, 1, 2, 3, 4, 5), "global": (0, 2, 4), "prototype": (1, 3, 5)}


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    alpha: float = 1.0
    beta: float = 0.1
    gamma: float = 0.1
    delta: float = 0.2
    epsilon: float = 0.1
    omega: float = 0.1
    prototype_norm: Literal["none", "layernorm", "l2"] = "none"
    jsd: Literal["sigmoid", "softmax"] = "sigmoid"
    task_loss: Literal["bce", "ce"] = "bce"
    class_prototypes: Literal["gated", "global", "prototype"] = "gated"
    fusion: Literal["cma", "concat", "add"] = "cma"
    scale: Literal["both", "global", "prototype"] = "both"


class Branch(NamedTuple):
    """What one branch makes of the batch; rows of samples without its modality are NaN."""

    present: Bool[Array, " B"]
    t: Float[Array, "B D"]
    prototypes: Float[Array, "B K D"]
    p: Float[Array, "B D"]


def evaluate(
    tokens: Tokens,
    available: Bool[Array, "B 2"],
    label: Label,
    weights: Weights,
    hyper: Hyperparameters,
    valid: Mapping[str, Bool[Array, "B N"]] | None = None,
) -> dict[str, Any]:
    """Return every unweighted term by name, and `objective`, `logits` and `attention` (B, C, 6).

    `valid` tells, for "image" or "tabular", the tokens that are no padding; by default all are.
    Attention is 0 at rows that are missing or that `scale` drops, and everywhere without CMA.
    """
    available = np.asarray(available, dtype=bool)
    assert available.any(axis=1).all()
    weights = {name: np.asarray(array, dtype=np.float64) for name, array in weights.items()}
    branches = {
        name: _branch(name, tokens[name], available, weights, hyper, valid or {})
        for name in BRANCHES
    }
    num_classes = len(weights["classifier.bias"])
    label = np.asarray(label)
    targets = np.eye(num_classes)[label] if label.ndim == 1 else label.astype(np.float64)

    logits, attention = _predict(branches, available, weights, hyper)
    terms = {
        "task": task_loss(logits, label if hyper.task_loss == "ce" else targets, hyper.task_loss),
        "token_disentanglement": disentanglement(branches, lambda branch: branch.t),
        "token_alignment": token_alignment(branches, hyper.jsd),
        "prototype_disentanglement": disentanglement(branches, lambda branch: branch.p),
        "diversity": diversity(branches, hyper.delta),
        "distribution_alignment": distribution_alignment(branches, hyper),
        "semantic_alignment": semantic_alignment(branches, targets, weights, hyper),
    }
    return {**terms, "objective": total(terms, hyper), "logits": logits, "attention": attention}


def total(terms: Mapping[str, float], hyper: Hyperparameters) -> float:
    """L = L_cls + alpha L_cssm + beta (L_div + L_pdis) + gamma (L_pali + L_cali)  (Eq. 13)."""
    return (
        terms["task"]
        + hyper.alpha * (terms["token_disentanglement"] + terms["token_alignment"])
        + hyper.beta * (terms["diversity"] + terms["prototype_disentanglement"])
        + hyper.gamma * (terms["distribution_alignment"] + terms["semantic_alignment"])
    )


def mean_over(value: Callable[[int], float], mask: Bool[Array, " B"]) -> float:
    """Mean of value(i) over the samples i in the mask, 0 if there are none."""
    samples = np.flatnonzero(mask)
    return float(sum(value(int(i)) for i in samples) / max(len(samples), 1))


def cosine(x: Float[Array, " D"], y: Float[Array, " D"]) -> float:
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-8))


def softmax(scores: Float[Array, " N"]) -> Float[Array, " N"]:
    return np.exp(scores - logsumexp(scores))


def _branch(
    name: str,
    tokens: Float[Array, "B N D"],
    available: Bool[Array, "B 2"],
    weights: Weights,
    hyper: Hyperparameters,
    valid: Mapping[str, Bool[Array, "B N"]],
) -> Branch:
    modality = name.split("_")[0]
    present = available[:, MODALITIES.index(modality)]
    own = {key.split(".")[1]: array for key, array in weights.items() if key.startswith(name + ".")}
    B, (K, D) = len(tokens), own["queries"].shape
    branch = Branch(present, *(np.full(shape, np.nan) for shape in ((B, D), (B, K, D), (B, D))))
    for i in np.flatnonzero(present):
        sample = np.asarray(tokens[i], dtype=np.float64)
        if modality in valid:
            sample = sample[valid[modality][i]]
        branch.t[i] = sample.mean(axis=0)
        branch.prototypes[i] = normalized(prototypes(sample, own), hyper.prototype_norm)
        branch.p[i] = branch.prototypes[i].mean(axis=0)
    return branch


def prototypes(tokens: Float[Array, "N D"], own: Weights) -> Float[Array, "K D"]:
    """F' = softmax(Q K^T / sqrt(D)) V + F;  P = FFN(F') + F'  (Eq. 2), for one sample."""
    queries, D = own["queries"], own["queries"].shape[1]
    keys, values = tokens @ own["W_k"], tokens @ own["W_v"]
    found = np.empty_like(queries)
    for k, query in enumerate(queries):
        attention = softmax(keys @ (query @ own["W_q"]) / np.sqrt(D))
        mixed = attention @ values + query
        inner = mixed @ own["W1"] + own["b1"]
        inner = 0.5 * inner * (1 + erf(inner / np.sqrt(2)))  # GELU
        found[k] = inner @ own["W2"] + own["b2"] + mixed
    return found


def normalized(prototypes: Float[Array, "K D"], kind: str) -> Float[Array, "K D"]:
    """Each prototype by itself; layernorm without learned scale and shift."""
    match kind:
        case "none":
            return prototypes
        case "layernorm":
            center = prototypes.mean(axis=1, keepdims=True)
            return (prototypes - center) / np.sqrt(prototypes.var(axis=1, keepdims=True) + 1e-5)
        case "l2":
            length = np.linalg.norm(prototypes, axis=1, keepdims=True)
            return prototypes / np.maximum(length, 1e-12)
    raise ValueError(f"prototype_norm must be none, layernorm or l2, got {kind!r}")


def disentanglement(
    branches: Mapping[str, Branch], vectors: Callable[[Branch], Float[Array, "B D"]]
) -> float:
    """sum_m mean over present samples of |cos(shared^m, specific^m)|  (Eq. 1, first item)."""
    loss = 0.0
    for modality in MODALITIES:
        shared, specific = branches[f"{modality}_shared"], branches[f"{modality}_specific"]
        x, y = vectors(shared), vectors(specific)
        loss += mean_over(lambda i, x=x, y=y: abs(cosine(x[i], y[i])), shared.present)
    return loss


def token_alignment(branches: Mapping[str, Branch], kind: str) -> float:
    """mean over paired samples of JSD(t_shared^image, t_shared^tabular)  (Eq. 1, second item)."""
    image, tabular = branches["image_shared"], branches["tabular_shared"]
    paired = image.present & tabular.present
    return mean_over(lambda i: divergence(image.t[i], tabular.t[i], kind), paired)


def divergence(x: Float[Array, " D"], y: Float[Array, " D"], kind: str) -> float:
    """JSD = 1/2 sum_d [u log(u / m) + v log(v / m)], m = (u + v) / 2, natural logarithm.

    u and v are the element-wise sigmoids of x and y (no complement term), or their softmax.
    """
    match kind:
        case "sigmoid":
            log_u, log_v = -np.logaddexp(0, -x), -np.logaddexp(0, -y)
        case "softmax":
            log_u, log_v = x - logsumexp(x), y - logsumexp(y)
        case _:
            raise ValueError(f"jsd must be sigmoid or softmax, got {kind!r}")
    log_m = np.logaddexp(log_u, log_v) - np.log(2)
    return float(0.5 * np.sum(np.exp(log_u) * (log_u - log_m) + np.exp(log_v) * (log_v - log_m)))


def diversity(branches: Mapping[str, Branch], delta: float) -> float:
    """The sum over branches of the mean over present samples of `overlap` (Eq. 3)."""
    return sum(
        mean_over(lambda i, P=branch.prototypes: overlap(P[i], delta), branch.present)
        for branch in branches.values()
    )


def overlap(prototypes: Float[Array, "K D"], delta: float) -> float:
    """1 / (K (K - 1)) sum_{i != j} max(0, cos(P_i, P_j) - delta); 0 for K = 1."""
    K = len(prototypes)
    if K == 1:
        return 0.0
    loss = 0.0
    for i in range(K):
        for j in range(K):
            if i != j:
                loss += max(0.0, cosine(prototypes[i], prototypes[j]) - delta)
    return loss / (K * (K - 1))


def distribution_alignment(branches: Mapping[str, Branch], hyper: Hyperparameters) -> float:
    """L_pali = L_pali^shared + omega L_pali^specific, means over paired samples (Eqs. 4, 5)."""
    loss = 0.0
    for kind, weight in (("shared", 1.0), ("specific", hyper.omega)):
        image, tabular = branches[f"image_{kind}"], branches[f"tabular_{kind}"]

        def value(i: int, x: Array = image.prototypes, y: Array = tabular.prototypes) -> float:
            return transport(squared_distances(x[i], y[i]), hyper.epsilon)[0]

        loss += weight * mean_over(value, image.present & tabular.present)
    return loss


def squared_distances(x: Float[Array, "K D"], y: Float[Array, "K D"]) -> Float[Array, "K K"]:
    return np.array([[np.sum((a - b) ** 2) for b in y] for a in x])


def transport(cost: Float[Array, "K K"], epsilon: float) -> tuple[float, Float[Array, "K K"]]:
    """min_G <G, C> + epsilon sum_ij G_ij log G_ij with marginals 1/K, and the plan G (Eq. 5).

    The optimal G is exp(-(C - f_i - g_j) / epsilon) with the f and g that give the marginals. They
    are sought from a large epsilon down to the one asked for; a constant taken off a row or a
    column of C changes no plan, so each level goes on from the C - f - g of the level before.
    """
    cost = np.asarray(cost, dtype=np.float64)
    level = max(float(np.ptp(cost)), epsilon)
    log_plan = _with_marginals(-cost / level)
    while level > epsilon:
        reduced = -level * log_plan  # C - f - g
        level = max(level / 2, epsilon)
        log_plan = _with_marginals(-reduced / level)
    plan = np.exp(log_plan)
    return float(np.sum(plan * cost) + epsilon * np.sum(plan * log_plan)), plan


def _with_marginals(log_plan: Float[Array, "K K"]) -> Float[Array, "K K"]:
    """Add constants to rows and columns of log G until the row and column sums of G are 1/K.

    The rows are right after each step. For the columns, a step is the Sinkhorn step, which never
    makes their error larger, or a part of the Newton step where that leaves less of it.
    """
    K = len(log_plan)

    def stepped(step: Float[Array, " K"]) -> Float[Array, "K K"]:
        moved = log_plan + step
        return moved - logsumexp(moved, axis=1, keepdims=True) - np.log(K)

    def error(log_plan: Float[Array, "K K"]) -> float:
        return float(np.abs(np.exp(log_plan).sum(axis=0) - 1 / K).sum())

    log_plan = stepped(np.zeros(K))
    for _ in range(20_000):
        if error(log_plan) <= 1e-12:
            return log_plan
        sinkhorn = -np.log(K) - logsumexp(log_plan, axis=0)
        newton = _newton_step(np.exp(log_plan))
        steps = [sinkhorn, newton, 0.5 * newton, 0.2 * newton, 0.05 * newton, 0.01 * newton]
        log_plan = min((stepped(step) for step in steps), key=error)
    raise RuntimeError(f"column sums are off by {error(log_plan):.1e} after 20000 steps")


def _newton_step(plan: Float[Array, "K K"]) -> Float[Array, " K"]:
    """Solve H step = 1/K - column sums, H = diag(column sums) - K G^T G.

    The rows of H sum to 0, so its diagonal follows from the rest without cancellation. H is
    singular for a constant step and wherever G falls into blocks; a direction below 1e-14 is left
    out: rounding fills it, and moving along it could not change an error of 1e-12.
    """
    K = len(plan)
    H = -K * plan.T @ plan
    np.fill_diagonal(H, 0.0)
    np.fill_diagonal(H, -H.sum(axis=1))
    values, vectors = np.linalg.eigh(H)
    kept = vectors[:, values > 1e-14]
    return kept @ (kept.T @ (1 / K - plan.sum(axis=0)) / values[values > 1e-14])


def semantic_alignment(
    branches: Mapping[str, Branch],
    targets: Float[Array, "B C"],
    weights: Weights,
    hyper: Hyperparameters,
) -> float:
    """L_cali (Eq. 8): mean over paired samples i and over classes c that both modalities have of

    (cos(p_i^image, nu_c^image) - cos(p_i^tabular, nu_c^tabular))^2.
    """
    image, tabular = branches["image_shared"], branches["tabular_shared"]
    nu_image = class_prototypes(image, targets, weights, hyper.class_prototypes)
    nu_tabular = class_prototypes(tabular, targets, weights, hyper.class_prototypes)
    classes = sorted(nu_image.keys() & nu_tabular.keys())

    def value(i: int) -> float:
        gaps = [
            cosine(image.p[i], nu_image[c]) - cosine(tabular.p[i], nu_tabular[c]) for c in classes
        ]
        return sum(gap**2 for gap in gaps) / max(len(classes), 1)

    return mean_over(value, image.present & tabular.present)


def class_prototypes(
    branch: Branch, targets: Float[Array, "B C"], weights: Weights, kind: str
) -> dict[int, Float[Array, " D"]]:
    """nu_c = lam nu_global + (1 - lam) nu_prototype (Eqs. 6, 7), over samples with the modality.

    A class without a positive sample is left out. "global" is lam = 1, "prototype" is lam = 0.
    """
    found = {}
    for c in range(targets.shape[1]):
        members = np.flatnonzero((targets[:, c] == 1) & branch.present)
        if len(members) == 0:
            continue
        nu_global, nu_prototype = branch.t[members].mean(axis=0), branch.p[members].mean(axis=0)
        match kind:
            case "gated":
                lam = expit(weights["gate"] @ np.concatenate([nu_global, nu_prototype]))
            case "global":
                lam = 1.0
            case "prototype":
                lam = 0.0
            case _:
                raise ValueError(
                    f"class_prototypes must be gated, global or prototype, got {kind!r}"
                )
        found[c] = lam * nu_global + (1 - lam) * nu_prototype
    return found


def evidence(
    branches: Mapping[str, Branch], available: Bool[Array, "B 2"], i: int
) -> dict[int, Float[Array, " D"]]:
    """The rows of H that sample i has, by their number (Eqs. 9, 10).

    0 image specific t, 1 its p, 2 fused shared t, 3 its p, 4 tabular specific t, 5 its p.
    """
    modalities = [modality for m, modality in enumerate(MODALITIES) if available[i, m]]
    shared = [branches[f"{modality}_shared"] for modality in modalities]
    rows = {
        2: np.mean([branch.t[i] for branch in shared], axis=0),
        3: np.mean([branch.p[i] for branch in shared], axis=0),
    }
    for modality in modalities:
        first = {"image": 0, "tabular": 4}[modality]
        rows[first] = branches[f"{modality}_specific"].t[i]
        rows[first + 1] = branches[f"{modality}_specific"].p[i]
    return rows


def _predict(
    branches: Mapping[str, Branch],
    available: Bool[Array, "B 2"],
    weights: Weights,
    hyper: Hyperparameters,
) -> tuple[Float[Array, "B C"], Float[Array, "B C 6"]]:
    """Logits and attention of every sample, from the rows that it has and that `scale` keeps."""
    B, C = len(available), len(weights["classifier.bias"])
    logits, attention = np.empty((B, C)), np.zeros((B, C, 6))
    kept = ROWS[hyper.scale]
    for i in range(B):
        rows = evidence(branches, available, i)
        present = {number: rows[number] for number in kept if number in rows}
        match hyper.fusion:
            case "cma":
                logits[i], attention[i] = aggregate(present, weights)
            case "concat":
                absent = np.zeros_like(rows[2])
                flat = np.concatenate([rows.get(number, absent) for number in kept])
                logits[i] = flat @ weights["classifier.weight"] + weights["classifier.bias"]
            case "add":
                added = np.sum(list(present.values()), axis=0)
                logits[i] = added @ weights["classifier.weight"] + weights["classifier.bias"]
            case _:
                raise ValueError(f"fusion must be cma, concat or add, got {hyper.fusion!r}")
    return logits, attention


def aggregate(
    rows: Mapping[int, Float[Array, " D"]], weights: Weights
) -> tuple[Float[Array, " C"], Float[Array, "C 6"]]:
    """Z = softmax(Q K^T / sqrt(D)) V over the rows given (Eq. 11); logit_c = w_c . Z_c + b_c."""
    numbers = sorted(rows)
    H = np.array([rows[number] for number in numbers])
    keys, values = H @ weights["aggregation.W_k"], H @ weights["aggregation.W_v"]
    C, D = weights["aggregation.queries"].shape
    logits, attention = np.empty(C), np.zeros((C, 6))
    for c in range(C):
        query = weights["aggregation.queries"][c] @ weights["aggregation.W_q"]
        attention[c, numbers] = softmax(keys @ query / np.sqrt(D))
        aggregated = attention[c, numbers] @ values
        logits[c] = weights["classifier.weight"][c] @ aggregated + weights["classifier.bias"][c]
    return logits, attention


def task_loss(logits: Float[Array, "B C"], label: Array, kind: str) -> float:
    """L_cls (Eq. 12), mean over samples; "bce" takes 0/1 targets and is a mean over classes too."""
    match kind:
        case "bce":
            return float(np.mean(np.logaddexp(0, logits) - label * logits))
        case "ce":
            assert label.ndim == 1
            chosen = logits[np.arange(len(label)), label]
            return float(np.mean(logsumexp(logits, axis=1) - chosen))
    raise ValueError(f"task_loss must be bce or ce, got {kind!r}")
