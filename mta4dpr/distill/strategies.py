"""Distillation strategies: which targets a strategy has and how they become a loss. One entry and one function each.

All strategies share the trainer, the groups, the student's initial weights and the number of optimiser steps, so that a row of
the leaderboard differs in the strategy alone (method, "Strategies"). A loss is a dictionary of terms, each with its weight.

In the docstrings s is the student's distribution over a group and t the teacher's, a_i are those of the assistants and t_i those
of teacher and assistants. CE is the cross-entropy of the positive against all passages of the batch, ce(p) = -log p(positive) that
over the group alone, each the mean over queries and, where there are several, over positives. KL is in nats, the mean over queries.
a, b and c are the options ce_weight, teacher_weight and assistant_weight, l is soft_weight and T is soft_tau; p^(1/T) stands for p
softened by T: softmax(log p / T).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mta4dpr.distill import losses
from mta4dpr.distill.distributions import divergence, mean_distribution
from mta4dpr.distill.selection import CRITERIA
from mta4dpr.distill.strategy import Requirement, Strategy, Terms
from mta4dpr.distill.terms import TERMS

if TYPE_CHECKING:
    from torch import Tensor

    from mta4dpr.distill.step import Step

CURRICULUM = ((5, 12, 13), (10, 10, 10), (20, 5, 5))  # CL-DRD's parts of 30 passages in its three iterations
PROD_CE, PROD_KL, LEAD_SMOOTHING = 0.1, 0.9, 10.0  # Lin 2023; Sun 2024


def _contrastive(step: Step) -> Terms:
    """L = CE. No teacher.

    Karpukhin et al. 2020, "Dense passage retrieval for open-domain question answering".
    """
    return {"ce": (1.0, step.cross_entropy())}


def _taught_by(step: Step, name: str, target: Tensor) -> Terms:
    """L = a * CE + (b + c) * KL(target || s). The KL weights sum to the same number for every strategy (method, "Loss")."""
    o = step.options
    return {"ce": (o.ce_weight, step.cross_entropy()), name: (o.teacher_weight + o.assistant_weight, losses.kl_loss(target, step.student))}


def _kd(step: Step) -> Terms:
    """L = a * CE + (b + c) * KL(t || s).

    Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network"; for retrieval: SimLM (Wang et al. 2023).
    """
    return _taught_by(step, "kl_teacher", step.teacher)


def _kd_ta(step: Step) -> Terms:
    """L = a * CE + (b + c) * KL(a_i || s), a_i the assistant that the option `ta` names, or the best on D_eval.

    Ours: the control for claims about combining, as it has one target, and not the teacher's.
    """
    label = step.best_assistant() if step.options.ta == "best" else step.options.ta
    step.notes["assistant"] = label
    return _taught_by(step, "kl_assistant", step.assistants[label])


def _mean_ta(step: Step) -> Terms:
    """L = a * CE + (b + c) * KL(mean of all t_i || s), the mean one of probabilities.

    Ours: the control for claims about selecting.
    """
    import torch

    return _taught_by(step, "kl_mean", mean_distribution(torch.stack(list(step.everyone.values()))))


def _margin_mse(step: Step) -> Terms:
    """L = mean over negatives n of ((log s_+ - log s_n) - (log t_+ - log t_n))^2.

    Hofstätter et al. 2020, "Improving efficient neural ranking models with cross-architecture knowledge distillation". There the
    scores are raw; here both sides are divided by their temperatures, so that models of other scales compare.
    """
    return {"margin": (1.0, losses.margin_mse_loss(step.teacher, step.student, step.kept))}


def _mta4dpr(step: Step) -> Terms:
    """L = a * CE + b * KL(t || s) + c * KL(a_i || s), a_i the assistant that TASelect chooses for the batch or for each query.

    Lu, Xun and Tang 2024, "Multi-teaching-assistants based iterative knowledge distillation for dense passage retrieval".
    """
    o = step.options
    return {
        "ce": (o.ce_weight, step.cross_entropy()),
        "kl_teacher": (o.teacher_weight, losses.kl_loss(step.teacher, step.student)),
        "kl_assistant": (o.assistant_weight, losses.kl_loss(step.select(), step.student)),
    }


def _weighted_ta(step: Step) -> Terms:
    """L = a * CE + (b + c) * sum_i w_i * KL(t_i || s), w_i = (1 / (1 + ce(t_i))) / sum_j (1 / (1 + ce(t_j))) on each query.

    MT-BERT: Wu, Wu and Huang 2021, "One teacher is enough?", its loss on scores; that on hidden states is left out.
    """
    import torch

    o, everyone = step.options, torch.stack(list(step.everyone.values()))
    weights = losses.gold_weights(everyone, step.relevant)  # (teachers, queries)
    each = torch.stack([divergence(target, step.student) for target in everyone])
    return {
        "ce": (o.ce_weight, step.cross_entropy()),
        "kl_mean": (o.teacher_weight + o.assistant_weight, (weights * each).sum(dim=0).mean()),
    }


def _takd(step: Step) -> Terms:
    """L = (1 - l) * CE + l * T^2 * KL(x^(1/T) || s^(1/T)), x the model before this one in the chain.

    That model is the only assistant of the step; the first model of the chain has none before it, and x is the teacher.
    TAKD: Mirzadeh et al. 2020, "Improved knowledge distillation via teacher assistant".
    """
    o = step.options
    label, target = next(iter(step.assistants.items()), (step.teacher_name, step.teacher))
    step.notes["assistant"] = label
    return {
        "ce": (1 - o.soft_weight, step.cross_entropy()),
        "kl_assistant" if step.assistants else "kl_teacher": (o.soft_weight, losses.soft_kl_loss(target, step.student, o.soft_tau)),
    }


def _dgkd(step: Step) -> Terms:
    """L = (1 - l) * CE + l * T^2 * sum_i KL(t_i^(1/T) || s^(1/T)) over all t_i but one, which is drawn for each step.

    Son et al. 2021, "Densely guided knowledge distillation using multiple teacher assistants".
    """
    o, labels = step.options, list(step.everyone)
    dropped = labels[int(step.draw(1)[0] * len(labels))]
    step.notes["dropped"] = dropped
    kept = [losses.soft_kl_loss(p, step.student, o.soft_tau) for label, p in step.everyone.items() if label != dropped]
    return {"ce": (1 - o.soft_weight, step.cross_entropy()), "kl_mean": (o.soft_weight, sum(kept[1:], kept[0]))}


def _rl_ta(step: Step) -> Terms:
    """L = a * CE + (b + c) * KL(mean of the chosen t_i || s) + L_policy.

    A policy chooses for each query, each t_i by itself, from ce(t_i), KL(t || t_i) and the entropy of t_i. It is rewarded with -ce(s)
    one step later: L_policy = -(reward - running mean of rewards) * log probability of the choice (REINFORCE).
    Yuan et al. 2021, "Reinforced multi-teacher selection for knowledge distillation".
    """
    import torch

    everyone = torch.stack(list(step.everyone.values()))
    features = losses.policy_features(everyone, step.teacher, step.relevant)
    uniform = torch.from_numpy(step.draw(features.shape[0] * features.shape[1])).to(features).reshape(features.shape[:2])
    chosen, policy_loss = step.policy(features, uniform, reward=-losses.gold_nll(step.student, step.relevant).mean().detach())
    step.notes["chosen"] = dict(zip(step.everyone, [round(x, 4) for x in chosen.mean(dim=1).tolist()], strict=True))
    target = mean_distribution(everyone, chosen / chosen.sum(dim=0))
    return {**_taught_by(step, "kl_mean", target), "policy": (1.0, policy_loss)}


def _cl_drd(step: Step) -> Terms:
    """L = sum over y_i > y_j of |1/r_i - 1/r_j| * log(1 + exp(s_j - s_i)), r the student's ranks, y labels of the teacher's order.

    y is 1/rank in the first part of the teacher's order, 0 in the second and -1 in the third; the parts change with each third of
    the steps (CURRICULUM). CL-DRD: Zeng, Zamani and Vinay 2022, "Curriculum learning for dense retrieval distillation".
    """
    sizes = CURRICULUM[len(CURRICULUM) * step.number // step.options.steps]
    return {"listwise": (1.0, losses.listwise_loss(losses.curriculum_labels(step.teacher, sizes), step.student, step.kept))}


def _prod(step: Step) -> Terms:
    """L = 0.1 * CE + 0.9 * T^2 * KL(t_i^(1/T) || s^(1/T)) + T^2 * KL(s_0^(1/T) || s^(1/T)), s_0 the student before the round.

    t_i is the round's teacher: from round to round a stronger one on D_eval. The first round has no s_0.
    PROD: Lin et al. 2023, "PROD: progressive distillation for dense retrieval".
    """
    o = step.options
    label = sorted(step.everyone, key=lambda name: step.standing[name])[min(step.round, len(step.everyone) - 1)]
    step.notes["assistant"] = label
    terms: Terms = {
        "ce": (PROD_CE, step.cross_entropy()),
        "kl_teacher": (PROD_KL, losses.soft_kl_loss(step.everyone[label], step.student, o.soft_tau)),
    }
    if step.previous is not None:
        terms["kl_previous"] = (1.0, losses.soft_kl_loss(step.previous, step.student, o.soft_tau))
    return terms


def _rocketqav2(step: Step) -> Terms:
    """L = ce(t) + KL(t || s), gradients to both; with `joint_kl: reverse` it is KL(s || t).

    Ren et al. 2021, "RocketQAv2: a joint training method for dense passage retrieval and passage re-ranking".
    """
    kl = losses.kl_loss(*((step.teacher, step.student) if step.options.joint_kl == "forward" else (step.student, step.teacher)))
    return {"ce_teacher": (1.0, losses.gold_nll(step.teacher, step.relevant).mean()), "kl_teacher": (1.0, kl)}


def _lead(step: Step) -> Terms:
    """L = ce(s) + ce(t) + KL(t || s) + KL(s || t) + sum_k w_k * KL(t^k || s^k), w = softmax(-ce(t^k) / 10) over k.

    s^k are the student's layers and t^k as many of the teacher's, drawn for each step and in order of depth; they have no gradient.
    LEAD: Sun et al. 2024, "LEAD: liberal feature-based distillation for dense retrieval".
    """
    import numpy as np
    import torch

    drawn = np.sort(np.argsort(step.draw(len(step.teacher_layers)))[: len(step.student_layers)])
    step.notes["layers"] = drawn.tolist()
    of_teacher = [step.teacher_layers[n].detach() for n in drawn]
    nll = torch.stack([losses.gold_nll(layer, step.relevant).mean() for layer in of_teacher])
    weights = (-nll / LEAD_SMOOTHING).softmax(dim=0)
    pairs = torch.stack([losses.kl_loss(t, s) for t, s in zip(of_teacher, step.student_layers, strict=False)])
    return {
        "ce": (1.0, losses.gold_nll(step.student, step.relevant).mean()),
        "ce_teacher": (1.0, losses.gold_nll(step.teacher, step.relevant).mean()),
        "kl_teacher": (1.0, losses.kl_loss(step.teacher, step.student) + losses.kl_loss(step.student, step.teacher)),
        "kl_layers": (1.0, (weights * pairs).sum()),
    }


# options that several strategies take
_SELECT = ("select", "fused", "granularity", *(option for criterion in CRITERIA.values() for option in criterion.options))
_WEIGHTS = ("ce_weight", "teacher_weight", "assistant_weight")
_KD = (*_WEIGHTS, "tau_teacher")
_TA = (*_KD, "calibration")

STRATEGIES: dict[str, Strategy] = {
    "contrastive": Strategy("DPR (Karpukhin 2020)", "cross-entropy alone", _contrastive, requires={Requirement.JUDGEMENTS_ALONE}),
    "kd": Strategy("Hinton 2015; SimLM (Wang 2023)", "cross-entropy and KL to the teacher", _kd, options=_KD),
    "kd_ta": Strategy(
        "control: ours",
        "kd with an assistant in the teacher's place",
        _kd_ta,
        requires={Requirement.ASSISTANTS, Requirement.STANDING},
        options=("ta", *_TA),
    ),
    "margin_mse": Strategy(
        "Hofstätter 2020", "squared error of the margins between positive and negatives", _margin_mse, options=("tau_teacher",)
    ),
    "mean_ta": Strategy(
        "control: ours", "KL to the mean of teacher and all assistants", _mean_ta, requires={Requirement.ASSISTANTS}, options=_TA
    ),
    "random_ta": Strategy(
        "control: ours",
        "as mta4dpr, with a random assistant each batch",
        _mta4dpr,
        requires={Requirement.ASSISTANTS},
        overrides={"select": "random", "replace": False},
        options=("fused", "granularity", *_TA),
    ),
    "best_ta": Strategy(
        "control: ours",
        "as mta4dpr, always with the assistant that is best on D_eval",
        _mta4dpr,
        requires={Requirement.ASSISTANTS, Requirement.STANDING},
        overrides={"select": "best", "replace": False},
        options=_TA,
    ),
    "weighted_ta": Strategy(
        "MT-BERT (Wu 2021), its score part",
        "KL to teacher and assistants, each weighted by how well it finds the positive",
        _weighted_ta,
        requires={Requirement.ASSISTANTS},
        options=_TA,
    ),
    "takd": Strategy(
        "Mirzadeh 2020",
        "a chain: teacher, then each assistant trained by the one before, then the student",
        _takd,
        cost="as kd, and a training of each assistant",
        requires={Requirement.ASSISTANTS, Requirement.CHAIN},
        options=("soft_weight", "soft_tau", "tau_teacher", "calibration"),
    ),
    "dgkd": Strategy(
        "Son 2021",
        "KL to teacher and all assistants, one of them dropped each step",
        _dgkd,
        requires={Requirement.ASSISTANTS},
        options=("soft_weight", "soft_tau", "tau_teacher", "calibration"),
    ),
    "rl_ta": Strategy(
        "Yuan 2021",
        "a learnt policy chooses among teacher and assistants for each query",
        _rl_ta,
        requires={Requirement.ASSISTANTS, Requirement.POLICY},
        options=("policy_lr", *_TA),
    ),
    "cl_drd": Strategy("CL-DRD (Zeng 2022)", "listwise loss over the teacher's order, finer from third to third", _cl_drd),
    "prod": Strategy(
        "PROD (Lin 2023)",
        "teachers from weak to strong, a round each, held back by the student as it was",
        _prod,
        cost="as kd, with a round for each teacher",
        requires={Requirement.ASSISTANTS, Requirement.STANDING, Requirement.PREVIOUS_STUDENT, Requirement.STAGES},
        overrides={"wrong_rule": "prod"},
        options=("soft_tau", "tau_teacher", "calibration"),
    ),
    "rocketqav2": Strategy(
        "RocketQAv2 (Ren 2021)",
        "teacher and student trained together",
        _rocketqav2,
        cost="as kd, and training the teacher",
        requires={Requirement.TEACHER_TRAINING},
        options=("joint_kl", "teacher_lr", "tau_teacher"),
    ),
    "lead": Strategy(
        "LEAD (Sun 2024)",
        "teacher and student trained together, layers aligned",
        _lead,
        cost="as kd, and training the teacher",
        requires={Requirement.TEACHER_TRAINING, Requirement.LAYERS},
        options=("teacher_lr", "tau_teacher"),
    ),
    "mta4dpr": Strategy(
        "MTA4DPR (Lu 2024)",
        "KL to the teacher and to the assistant nearest to it, the worst assistant replaced by the student",
        _mta4dpr,
        requires={Requirement.ASSISTANTS, Requirement.REPLACEMENT},
        options=("replace", *_SELECT, *_TA),
    ),
}

# mta4dpr without one of its parts: (how it differs, the options that make it so). Without assistants it is kd.
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "mta4dpr-no-fused": ("without fused assistants", {"fused": "none"}),
    "mta4dpr-no-selection": ("without selection: a random assistant each batch", {"select": "random"}),
    "mta4dpr-no-replacement": ("without replacing the worst assistant", {"replace": False}),
    "mta4dpr-no-harder": ("without harder data and without drawing wrong queries more often", {"harder": False, "wrong_weight": 1.0}),
    "mta4dpr-one-round": ("one round with the same number of steps", {"rounds": 1}),
}


def headings_of_terms(strategy: str) -> dict[str, str]:
    """What the plots of a training call its terms, in their order: those of TERMS, then those that strategies name themselves.

    `strategy` is the name under which a student was trained. That of a variant is no strategy's: then any strategy's titles do.
    """
    own = STRATEGIES[strategy].terms if strategy in STRATEGIES else {}
    others = {name: title for one in STRATEGIES.values() for name, title in one.terms.items() if name not in TERMS}
    return {**{name: term.heading for name, term in TERMS.items()}, **others, **own}
