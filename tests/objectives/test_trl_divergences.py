"""TRL's own loss functions on the same logits, values and gradients: float64 to 1e-9 wherever they keep it."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
pytest.importorskip("trl", reason="needs the extra potstill[dev]")
from golden import Inputs, Logits, TopK, linear, same

from potstill.objectives import divergence, policy, transport
from potstill.objectives.inputs import OtherVocabulary, TokenLogp
from potstill.objectives.likelihood import sft
from potstill.objectives.truncated import top_k

N, V, K = 7, 23, 3
BETAS = {0.0: divergence.forward_kl, 1.0: divergence.reverse_kl}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        yield


def logits(dtype=torch.float64, scale=3.0):
    """The student's with a gradient, the teacher's, and targets among which are and are not the teacher's first."""
    draw = torch.Generator().manual_seed(4)
    student, teacher = (
        torch.randn(N, V, generator=draw, dtype=torch.float64).to(dtype) for _ in range(2)
    )
    return student.requires_grad_(), scale * teacher, torch.randint(V, (N,), generator=draw)


def agree(theirs, ours, leaves, tolerance=1e-9):
    """The same value, and gradients the same in every entry."""
    assert float(theirs.detach()) == pytest.approx(
        float(ours.detach()), abs=tolerance, rel=tolerance
    )
    slopes = [torch.autograd.grad(loss, leaves, retain_graph=True) for loss in (theirs, ours)]
    for their, our in zip(*slopes, strict=True):
        assert float((their - our).abs().max()) <= tolerance * max(1.0, float(our.abs().max()))
        assert float(our.abs().max()) > 1e-3


def jsd(student, teacher, targets, beta, **how):
    """Ours: the ends by their own names."""
    objective, more = (BETAS[beta], {}) if beta in BETAS else (divergence.jsd, {"beta": beta})
    teacher = Logits(teacher) if isinstance(teacher, torch.Tensor) else teacher
    return objective(Inputs(student, same, targets, teacher=teacher), **more, **how).values_N


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("place", ["gkd.GKDTrainer", "gold.GOLDTrainer", "iw_opd.IWOPDTrainer"])
def test_generalised_jsd(place, beta, temperature):
    module, name = place.split(".")
    trainer = getattr(pytest.importorskip(f"trl.experimental.{module}"), name)
    student, teacher, targets = logits()
    trl = trainer.generalized_jsd_loss(
        student[None], teacher[None], beta=beta, temperature=temperature, reduction="sum"
    )
    agree(trl, jsd(student, teacher, targets, beta, temperature=temperature).sum(), [student])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_fused_divergence_of_the_distillation_trainer(beta, temperature):
    """From states and heads, tiles of float32: TRL's DistillationTrainer, whose normaliser is the step's tokens."""
    trainer = pytest.importorskip("trl.trainer.distillation_trainer")
    x = linear(dtype=torch.float32)
    theirs, head = x.teacher.hidden_NDt, x.teacher.head
    counted = torch.ones(1, len(x.targets_N))
    loss, _, count = trainer._chunked_divergence_loss(
        x.hidden_ND[None],
        theirs[None],
        x.head.weight,
        head.weight,
        counted,
        beta,
        num_items_in_batch=20,
        student_lm_head_bias=x.head.bias,
        temperature=temperature,
    )
    assert count == len(x.targets_N)
    objective, more = (BETAS[beta], {}) if beta in BETAS else (divergence.jsd, {"beta": beta})
    ours = objective(x, temperature=temperature, **more).values_N.sum() / 20
    agree(loss, ours, [x.hidden_ND, x.head.weight, x.head.bias], 2e-6)


def supported(student, teacher, by):
    """The teacher's log-probabilities at the K tokens that one of the two likes best."""
    ids = (student if by == "student" else teacher).detach().topk(K, -1).indices
    return TopK(ids, teacher.log_softmax(-1).gather(1, ids))


TAILS = {True: "bucket", False: "renormalise"}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("beta", "by"), [(0.0, "teacher"), (1.0, "student")])
def test_kept_entries_of_iw_opd(beta, by, tail):
    """The teacher's best for the forward divergence, the student's for the reverse one; with and without a tail."""
    trainer = pytest.importorskip("trl.experimental.iw_opd").IWOPDTrainer
    student, teacher, targets = logits()
    trl = trainer.generalized_jsd_loss(
        student[None], teacher[None], beta=beta, top_k=K, add_tail=tail, reduction="sum"
    )
    kept = supported(student, teacher, by)
    if by == "teacher":
        assert torch.equal(kept.ids_NK, top_k(teacher, K).ids_NK)
    agree(trl, jsd(student, kept, targets, beta, tail=TAILS[tail]).sum(), [student])


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["sdft", "sdpo"])
def test_kept_entries_of_self_distillation(name, beta, tail):
    """SDFT and SDPO: the student's best K, at any mixture; their whole vocabulary is the generalised divergence too."""
    utils = pytest.importorskip(f"trl.experimental.{name}.loss_utils")
    student, teacher, targets = logits()
    trl = utils.compute_topk_self_distillation_loss(
        student, teacher, distillation_topk=K, distillation_alpha=beta, distillation_add_tail=tail
    )
    kept = supported(student, teacher, "student")
    agree(trl.sum(), jsd(student, kept, targets, beta, tail=TAILS[tail]).sum(), [student])
    whole = utils.compute_full_logit_self_distillation_loss(
        student, teacher, distillation_alpha=beta
    )
    agree(whole.sum(), jsd(student, teacher, targets, beta).sum(), [student])


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_realised_token_and_the_teachers_first(beta):
    """What a server's answer holds: two entries and a tail for the mixture, the realised one alone for the reverse."""
    trainer = pytest.importorskip("trl.experimental.server_distillation").ServerDistillationTrainer
    student, teacher, targets = logits()
    first, logp = teacher.argmax(-1), teacher.log_softmax(-1)
    at = lambda ids: logp.gather(1, ids[:, None]).squeeze(1)  # noqa: E731
    assert (first != targets).all()
    told = SimpleNamespace(
        beta=beta, loss_add_tail=True, _reduce_divergence_loss=trainer._reduce_divergence_loss
    )
    given = (student.log_softmax(-1), first, at(first), targets, at(targets))
    trl = trainer._compute_sparse_top_1_divergence_loss(
        told, *(part[None] for part in given), targets[None]
    )
    ids = targets[:, None] if beta == 1 else torch.stack([first, targets], 1)
    kept = TopK(ids, logp.gather(1, ids))
    agree(trl, jsd(student, kept, targets, beta).mean(), [student])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kept_entries_of_asynchronous_distillation(temperature):
    """Forward divergence to a server's best K with a tail, from states and a head, in float32."""
    trainer = pytest.importorskip("trl.experimental.async_distillation.async_distillation_trainer")
    x = linear(dtype=torch.float32)
    kept = top_k(x.teacher.head(x.teacher.hidden_NDt), K, temperature=temperature)
    trl = trainer._jsd_loss_chunk(
        x.hidden_ND, x.head.weight, x.head.bias, 1.0, None, *kept, torch.ones_like(kept.ids_NK, dtype=torch.bool),
        0.0, temperature, True, None, 0,
    )[0]  # fmt: skip
    ours = divergence.forward_kl(
        Inputs(x.hidden_ND, x.head, x.targets_N, teacher=kept), temperature=temperature
    ).values_N.sum()
    agree(trl, ours, [x.hidden_ND, x.head.weight, x.head.bias], 2e-6)


@pytest.mark.parametrize("objective", [policy.token_kl, policy.opd])
@pytest.mark.parametrize("name", ["sdft", "sdpo"])
def test_the_sampled_token_of_self_distillation_has_our_gradient(name, objective):
    """`sg(q - p) q`: the value is another one, the gradient that of k2 and, on policy, of the per-token advantage."""
    utils = pytest.importorskip(f"trl.experimental.{name}.loss_utils")
    student, teacher, targets = logits()
    trl = utils.compute_sampled_token_self_distillation_loss(
        student[None], teacher[None], targets[None], distillation_alpha=1.0
    )
    logp = teacher.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    ours = objective(Inputs(student, same, targets, teacher=TokenLogp(logp))).values_N
    wanted, found = (torch.autograd.grad(loss.sum(), student)[0] for loss in (trl, ours))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    assert abs(float((trl - ours).sum().detach())) > 0.1  # the values are not comparable


def test_iw_opd():
    module = pytest.importorskip("trl.experimental.iw_opd.iw_opd_trainer")
    student, teacher, targets = logits()
    logp = teacher.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    told = SimpleNamespace(
        temperature=1.0,
        iw_opd_epsilon=1e-12,
        iw_opd_gamma=0.7,
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
    )
    trl = module.IWOPDTrainer._compute_iw_opd_loss(
        told, student[None], targets[None], targets[None], logp[None]
    )
    ours = policy.iw_opd(
        Inputs(student, same, targets, teacher=TokenLogp(logp)), gamma=0.7
    ).values_N.mean()
    agree(trl, ours, [student])


def gold(student, teacher, labels, theirs):
    """GOLD's loss where both cut the text alike, as it stands in its default for byte offsets switched off."""
    module = pytest.importorskip("trl.experimental.gold.gold_trainer")
    settings = {
        "uld_crossentropy_weight": 0,
        "uld_distillation_weight": 1,
        "beta": 0.5,
        "use_extended_uld": False,
    }
    settings |= {f"uld_{side}_temperature": 1 for side in ("student", "teacher")}
    settings |= {f"uld_skip_{side}_eos": False for side in ("student", "teacher")}
    settings |= {"uld_token_merge_strategy": "bayesian", "uld_use_hybrid_loss": False}
    loss = module.ULDLoss(SimpleNamespace(**settings))
    pad = lambda z: torch.cat([z, z[:1]])[None]  # noqa: E731  the row after the last label predicts nothing
    mine, other = (torch.cat([torch.tensor([-100]), ids])[None] for ids in (labels, theirs))
    return loss(pad(student), pad(teacher), mine, other, mine.clamp_min(0), other.clamp_min(0))


def test_uld():
    """The distance of sorted distributions between vocabularies of 23 and 31 tokens, with its gradient."""
    student, _, targets = logits()
    teacher = 2 * torch.randn(
        N, V + 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    at = torch.arange(N)
    other = OtherVocabulary(teacher, same, targets, torch.zeros(N, dtype=torch.long), at, at)
    ours = transport.uld(
        Inputs(student, same, targets, teacher=other), ce=0, weight=1
    ).values_N.mean()
    agree(gold(student, teacher, targets, targets), ours, [student])


def test_likelihood_of_transformers():
    """`ForCausalLMLoss`, which shifts itself and computes in float32."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    student, _, targets = logits()
    padded, labels = (
        torch.cat([student, student[:1]])[None],
        torch.cat([torch.tensor([-100]), targets])[None],
    )
    theirs = ForCausalLMLoss(padded, labels, vocab_size=V, num_items_in_batch=9)
    agree(theirs, sft(Inputs(student, same, targets)).values_N.sum() / 9, [student], 2e-6)
