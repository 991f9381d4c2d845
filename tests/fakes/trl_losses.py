"""TRL's own loss functions beside ours on the same logits: each function here is one opinion."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from golden import Inputs, Logits, TopK, linear, same
from opinions import SINGLE, Comparison, compare

from potstill.objectives import divergence, policy, transport
from potstill.objectives.inputs import OtherVocabulary, TokenLogp
from potstill.objectives.likelihood import sft
from potstill.objectives.truncated import top_k

N, V, K = 7, 23, 3
BETAS = {0.0: divergence.forward_kl, 1.0: divergence.reverse_kl}
TAILS = {True: "bucket", False: "renormalise"}
SAMPLED = {"token_kl": policy.token_kl, "opd": policy.opd}


def trl(module: str) -> Any:
    """An experimental module of TRL, or a skip."""
    return pytest.importorskip(f"trl.{module}", reason="needs the extra potstill[dev]")


def logits(dtype=torch.float64, scale=3.0):
    """The student's with a gradient, the teacher's, and targets among which are and are not the teacher's first."""
    draw = torch.Generator().manual_seed(4)
    student, teacher = (
        torch.randn(N, V, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2)
    )
    return student.requires_grad_(), scale * teacher, torch.randint(V, (N,), generator=draw)


def divergence_of(x, beta, **how):
    """Ours: the ends by their own names."""
    if beta in BETAS:
        return BETAS[beta](x, **how).values_N
    return divergence.jsd(x, beta=beta, **how).values_N


def jsd(student, teacher, targets, beta, **how):
    """Ours, of logits and a teacher's logits or entries."""
    teacher = Logits(teacher) if isinstance(teacher, torch.Tensor) else teacher
    return divergence_of(Inputs(student, same, targets, teacher=teacher), beta, **how)


def generalised_jsd(_, place, beta, temperature):
    """GKD, GOLD and IW-OPD: the generalised divergence."""
    module, name = place.split(".")
    trainer = getattr(trl(f"experimental.{module}"), name)
    student, teacher, targets = logits()
    theirs = trainer.generalized_jsd_loss(
        student[None], teacher[None], beta=beta, temperature=temperature, reduction="sum"
    )
    ours = jsd(student, teacher, targets, beta, temperature=temperature)
    return compare(theirs, ours.sum(), [student])


def fused_divergence(_, beta, temperature):
    """DistillationTrainer: from states and heads, tiles of float32; its normaliser is the step's tokens."""
    trainer = trl("trainer.distillation_trainer")
    x = linear(dtype=torch.float32)
    theirs, head = x.teacher.hidden_NDt, x.teacher.head
    counted = torch.ones(1, len(x.targets_N))
    loss, _, count = trainer._chunked_divergence_loss(
        x.hidden_ND[None], theirs[None], x.head.weight, head.weight, counted, beta,
        num_items_in_batch=20, student_lm_head_bias=x.head.bias, temperature=temperature,
    )  # fmt: skip
    assert count == len(x.targets_N)
    ours = divergence_of(x, beta, temperature=temperature).sum() / 20
    return compare(loss, ours, [x.hidden_ND, x.head.weight, x.head.bias], SINGLE)


def supported(student, teacher, by):
    """The teacher's log-probabilities at the K tokens that one of the two likes best."""
    ids = (student if by == "student" else teacher).detach().topk(K, -1).indices
    return TopK(ids, teacher.log_softmax(-1).gather(1, ids))


def entries_of_iw_opd(_, beta, by, tail):
    """IW-OPD's top k: the teacher's best for the forward divergence, the student's for the reverse one."""
    trainer = trl("experimental.iw_opd").IWOPDTrainer
    student, teacher, targets = logits()
    theirs = trainer.generalized_jsd_loss(
        student[None], teacher[None], beta=beta, top_k=K, add_tail=tail, reduction="sum"
    )
    kept = supported(student, teacher, by)
    if by == "teacher":
        assert torch.equal(kept.ids_NK, top_k(teacher, K).ids_NK)
    ours = jsd(student, kept, targets, beta, tail=TAILS[tail])
    return compare(theirs, ours.sum(), [student])


def self_distillation(_, name, beta, tail):
    """SDFT and SDPO: the student's best K, at any mixture; their whole vocabulary is the generalised divergence."""
    utils = trl(f"experimental.{name}.loss_utils")
    student, teacher, targets = logits()
    of_top = utils.compute_topk_self_distillation_loss(
        student, teacher, distillation_topk=K, distillation_alpha=beta, distillation_add_tail=tail
    )
    whole = utils.compute_full_logit_self_distillation_loss(
        student, teacher, distillation_alpha=beta
    )
    kept = supported(student, teacher, "student")
    ours = jsd(student, kept, targets, beta, tail=TAILS[tail])
    return [
        compare(of_top.sum(), ours.sum(), [student]),
        compare(whole.sum(), jsd(student, teacher, targets, beta).sum(), [student]),
    ]


def realised_and_first(_, beta):
    """A server's answer: two entries and a tail for the mixture, the realised one alone for the reverse."""
    trainer = trl("experimental.server_distillation").ServerDistillationTrainer
    student, teacher, targets = logits()
    first, logp = teacher.argmax(-1), teacher.log_softmax(-1)
    assert (first != targets).all()
    told = SimpleNamespace(
        beta=beta, loss_add_tail=True, _reduce_divergence_loss=trainer._reduce_divergence_loss
    )
    logp_first, logp_target = (logp.gather(1, ids[:, None]).squeeze(1) for ids in (first, targets))
    given = (student.log_softmax(-1), first, logp_first, targets, logp_target)
    theirs = trainer._compute_sparse_top_1_divergence_loss(
        told, *(part[None] for part in given), targets[None]
    )
    ids = targets[:, None] if beta == 1 else torch.stack([first, targets], 1)
    ours = jsd(student, TopK(ids, logp.gather(1, ids)), targets, beta)
    return compare(theirs, ours.mean(), [student])


def entries_of_asynchronous_distillation(_, temperature):
    """Forward divergence to a server's best K with a tail, from states and a head, in float32."""
    trainer = trl("experimental.async_distillation.async_distillation_trainer")
    x = linear(dtype=torch.float32)
    kept = top_k(x.teacher.head(x.teacher.hidden_NDt), K, temperature=temperature)
    theirs = trainer._jsd_loss_chunk(
        x.hidden_ND, x.head.weight, x.head.bias, 1.0, None, *kept, torch.ones_like(kept.ids_NK, dtype=torch.bool),
        0.0, temperature, True, None, 0,
    )[0]  # fmt: skip
    inputs = Inputs(x.hidden_ND, x.head, x.targets_N, teacher=kept)
    ours = divergence.forward_kl(inputs, temperature=temperature).values_N.sum()
    return compare(theirs, ours, [x.hidden_ND, x.head.weight, x.head.bias], SINGLE)


def sampled_token_of_self_distillation(_, name, objective):
    """`sg(q - p) q`: another value, with the gradient of k2 and, on policy, of the per-token advantage."""
    utils = trl(f"experimental.{name}.loss_utils")
    student, teacher, targets = logits()
    theirs = utils.compute_sampled_token_self_distillation_loss(
        student[None], teacher[None], targets[None], distillation_alpha=1.0
    ).sum()
    logp = teacher.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    inputs = Inputs(student, same, targets, teacher=TokenLogp(logp))
    ours = SAMPLED[objective](inputs).values_N.sum()
    assert abs(float((theirs - ours).detach())) > 0.1, "the values are not comparable"
    gradients = [torch.autograd.grad(loss, [student]) for loss in (theirs, ours)]
    return Comparison(0.0, 0.0, their_gradients=gradients[0], our_gradients=gradients[1])


def iw_opd(_):
    """IW-OPD's own loss."""
    module = trl("experimental.iw_opd.iw_opd_trainer")
    student, teacher, targets = logits()
    logp = teacher.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    told = SimpleNamespace(
        temperature=1.0, iw_opd_epsilon=1e-12, iw_opd_gamma=0.7,
        model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)},
    )  # fmt: skip
    theirs = module.IWOPDTrainer._compute_iw_opd_loss(
        told, student[None], targets[None], targets[None], logp[None]
    )
    inputs = Inputs(student, same, targets, teacher=TokenLogp(logp))
    return compare(theirs, policy.iw_opd(inputs, gamma=0.7).values_N.mean(), [student])


def uld(_):
    """GOLD where both cut the text alike: sorted distributions of vocabularies of 23 and 31 tokens."""
    student, _, targets = logits()
    draw = torch.Generator().manual_seed(5)
    teacher = 2 * torch.randn(N, V + 8, generator=draw, dtype=torch.float64)
    at = torch.arange(N)
    other = OtherVocabulary(teacher, same, targets, torch.zeros(N, dtype=torch.long), at, at)
    inputs = Inputs(student, same, targets, teacher=other)
    ours = transport.uld(inputs, ce=0, weight=1).values_N.mean()
    return compare(_gold_loss(student, teacher, targets), ours, [student])


def _gold_loss(student, teacher, labels):
    """GOLD's loss as it stands, its default for byte offsets switched off."""
    module = trl("experimental.gold.gold_trainer")
    settings = {
        "uld_crossentropy_weight": 0, "uld_distillation_weight": 1, "beta": 0.5,
        "use_extended_uld": False, "uld_token_merge_strategy": "bayesian", "uld_use_hybrid_loss": False,
    }  # fmt: skip
    for side in ("student", "teacher"):
        settings |= {f"uld_{side}_temperature": 1, f"uld_skip_{side}_eos": False}
    loss = module.ULDLoss(SimpleNamespace(**settings))
    # The row after the last label predicts nothing.
    sides = [torch.cat([z, z[:1]])[None] for z in (student, teacher)]
    ids = torch.cat([torch.tensor([-100]), labels])[None]
    return loss(*sides, ids, ids, ids.clamp_min(0), ids.clamp_min(0))


def likelihood_of_transformers(_):
    """`ForCausalLMLoss`, which shifts itself and computes in float32."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    student, _, targets = logits()
    padded = torch.cat([student, student[:1]])[None]
    labels = torch.cat([torch.tensor([-100]), targets])[None]
    theirs = ForCausalLMLoss(padded, labels, vocab_size=V, num_items_in_batch=9)
    ours = sft(Inputs(student, same, targets)).values_N.sum() / 9
    return compare(theirs, ours, [student], SINGLE)
