"""What others say of the same losses: golden values, transformers, TRL and liger-kernel, in one table.

`OPINIONS` names who says it and what; the functions that compute both sides are in `fakes/`: golden_values, trl_losses,
trl_trainers, liger_made. Where one of them computes something else than we do, it stands below the table, with the
difference by hand (docs/disagreements.md).
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
import golden_values as golden
import liger_made as liger
import trl_losses as trl
import trl_trainers as trainers
from golden import WAYS, S, T, inputs, told
from opinions import LIGER, Opinion, check

from potstill.objectives import divergence, likelihood, policy, preference

BETA = trainers.BETA
AHEAD = (True, False)
FORMS = {"float64": WAYS["plain, float64"], "fp32": WAYS["plain, fp32"]}
# DPO's kinds by TRL's names: ours, its constants, and what TRL is told besides.
PAIR_LOSSES = {
    "sigmoid": (preference.dpo, {}, {}),
    "hinge": (preference.dpo, {"kind": "hinge"}, {}),
    "robust": (preference.dpo, {"smoothing": 0.2}, {"label_smoothing": 0.2}),
    "sigmoid_norm": (preference.dpo, {"kind": "sigmoid_norm"}, {}),
    "apo_zero": (preference.dpo, {"kind": "apo_zero"}, {}),
    "apo_down": (preference.dpo, {"kind": "apo_down"}, {}),
    "nca_pair": (preference.dpo, {"kind": "nca"}, {}),
    "bco_pair": (preference.dpo, {"kind": "bco"}, {}),
    "sppo_hard": (preference.dpo, {"kind": "sppo"}, {}),
    "exo_pair": (preference.exo, {"smoothing": 0.2}, {"label_smoothing": 0.2}),
    "discopop": (preference.discopop, {}, {}),
}
REDUCTIONS = {"grpo": "sequence", "bnpo": "token", "dapo": "token", "dr_grpo": "fixed"}
NARROW = {"clip": 0.03, "clip_high": 0.05}  # where ratios of sequences lie: some are met, not all
OPEN = {"clip": 1.0, "clip_high": 0.28}
OTHER_RATIOS = {  # TRL's loss; its mean, here the fixed one's longest length is 1; ours
    "GSPO": ("grpo", "sequence", policy.grpo, {"ratio": "sequence", **NARROW}),
    "LUSPO": ("luspo", "fixed", policy.grpo, {"ratio": "sequence", **NARROW}),
    "CISPO": ("cispo", "token", policy.grpo, {"surrogate": "cispo", **OPEN}),
    "CISPO of sequences": (
        *("cispo", "token", policy.grpo),
        {"surrogate": "cispo", "ratio": "sequence", "clip": 1.0, "clip_high": 0.05},
    ),
    "SAPO": ("sapo", "sequence", policy.sapo, {}),
    "SAPO of sequences": ("sapo", "sequence", policy.sapo, {"ratio": "sequence"}),
    "VESPO": ("vespo", "token", policy.vespo, {}),
}


def golden_opinions() -> dict[str, Opinion]:
    """The golden values, each in float64 and fp32, with a head that is a function and one that is not."""
    opinions: dict[str, Opinion] = {}
    for number_of, case in enumerate(golden.LOSSES):
        name = f"{number_of} {case[0]} {case[2].__name__}"
        opinions[name] = partial(golden.in_every_way, golden.loss, case=case)
    for (number_of, case), ahead in itertools.product(enumerate(golden.GRADIENTS), AHEAD):
        name = f"gradient {number_of} {case[0]} {case[2].__name__}, ahead={ahead}"
        opinions[name] = partial(golden.in_every_way, golden.gradient, case=case, ahead=ahead)
    for number_of, case in enumerate(golden.DERIVED):
        opinions[f"derived {number_of} {case[0]}"] = partial(
            golden.in_every_way, golden.derived, case=case
        )
    for ahead, wrapped, form in itertools.product(AHEAD, AHEAD, FORMS):
        name = f"fused_linear_ce, ahead={ahead}, wrapped={wrapped}, {form}"
        opinions[name] = partial(
            golden.in_every_chunk, ahead=ahead, wrapped=wrapped, way=FORMS[form]
        )
    for form, way in FORMS.items():
        opinions[f"numbers, {form}"] = partial(golden.numbers, way=way)
        opinions[f"kl_masked_vocabulary, {form}"] = partial(golden.banned_token, way=way)
    opinions["multilevelot_terms"] = golden.terms_of_multilevel_ot
    return opinions


def trl_loss_opinions() -> dict[str, Opinion]:
    """TRL's functions of logits."""
    opinions: dict[str, Opinion] = {}
    places = ("gkd.GKDTrainer", "gold.GOLDTrainer", "iw_opd.IWOPDTrainer")
    for place, beta, temperature in itertools.product(
        places, (0.0, 0.1, 0.5, 0.9, 1.0), (1.0, 2.5)
    ):
        opinions[f"{place} jsd beta={beta} temperature={temperature}"] = partial(
            trl.generalised_jsd, place=place, beta=beta, temperature=temperature
        )
    for beta, temperature in itertools.product((0.0, 0.5, 1.0), (1.0, 2.0)):
        opinions[f"DistillationTrainer beta={beta} temperature={temperature}"] = partial(
            trl.fused_divergence, beta=beta, temperature=temperature
        )
    for (beta, by), tail in itertools.product([(0.0, "teacher"), (1.0, "student")], trl.TAILS):
        opinions[f"IW-OPD top k beta={beta} tail={tail}"] = partial(
            trl.entries_of_iw_opd, beta=beta, by=by, tail=tail
        )
    for name, beta, tail in itertools.product(("sdft", "sdpo"), (0.0, 0.3, 1.0), trl.TAILS):
        opinions[f"{name} beta={beta} tail={tail}"] = partial(
            trl.self_distillation, name=name, beta=beta, tail=tail
        )
    for name, objective in itertools.product(("sdft", "sdpo"), trl.SAMPLED):
        opinions[f"{name} sampled token, {objective}"] = partial(
            trl.sampled_token_of_self_distillation, name=name, objective=objective
        )
    for beta in (0.5, 1.0):
        opinions[f"server distillation beta={beta}"] = partial(trl.realised_and_first, beta=beta)
    for temperature in (1.0, 2.0):
        opinions[f"asynchronous distillation temperature={temperature}"] = partial(
            trl.entries_of_asynchronous_distillation, temperature=temperature
        )
    return {**opinions, "IW-OPD": trl.iw_opd, "GOLD uld": trl.uld}


def trl_trainer_opinions() -> dict[str, Opinion]:
    """TRL's trainers of a tiny checkpoint, by the batches that they collate."""
    opinions: dict[str, Opinion] = {}
    for kind, (objective, ours, theirs) in PAIR_LOSSES.items():
        ours = {"beta": BETA, **ours}
        opinions[f"DPO {kind}"] = partial(
            trainers.dpo, kind=kind, objective=objective, ours=ours, theirs=theirs
        )
    # What comes before a step is the prompt; IPO's constant is called tau.
    more_pairs = {
        "DPO of a step": ("sigmoid", preference.step_dpo, {"beta": BETA}, {}),
        "IPO": ("ipo", preference.ipo, {"tau": BETA}, {}),
        "LD-DPO": (
            "sigmoid",
            preference.dpo,
            {"beta": BETA, "length_share": 0.5},
            {"ld_alpha": 0.5},
        ),
    }
    for name, (kind, objective, ours, theirs) in more_pairs.items():
        opinions[name] = partial(
            trainers.dpo, kind=kind, objective=objective, ours=ours, theirs=theirs
        )
    opinions["DPO with likelihood, one pair"] = trainers.dpo_with_likelihood_of_a_pair
    opinions["DPO with likelihood, but for its mean"] = trainers.dpo_with_likelihood_of_pairs
    opinions["SimPO"] = partial(trainers.simpo_and_cpo, kind="simpo", objective=preference.simpo)
    opinions["CPO"] = partial(trainers.simpo_and_cpo, kind="sigmoid", objective=preference.cpo)
    opinions["ORPO, but for the prompt's likelihood"] = trainers.orpo
    opinions["KTO, KL of the mismatched batch"] = trainers.kto
    opinions["KTO, KL given"] = partial(trainers.kto, kl=1.5)
    opinions["SFT"] = partial(trainers.sft, kind="nll", objective=likelihood.sft)
    opinions["DFT"] = partial(trainers.sft, kind="dft", objective=likelihood.dft)
    for (kind, reduction), beta, corrected in itertools.product(
        REDUCTIONS.items(), (0.0, 0.04), AHEAD
    ):
        opinions[f"GRPO {kind} beta={beta} corrected={corrected}"] = partial(
            trainers.grpo, kind=kind, reduction=reduction, beta=beta, corrected=corrected
        )
    for (name, settings), beta in itertools.product(OTHER_RATIOS.items(), (0.0, 0.04)):
        kind, reduction, objective, how = settings
        opinions[f"{name} beta={beta}"] = partial(
            trainers.other_ratios,
            kind=kind,
            reduction=reduction,
            objective=objective,
            how=how,
            beta=beta,
        )
    for scale in ("group", "batch", "none"):
        opinions[f"advantages, scale={scale}"] = partial(trainers.advantages_of_groups, scale=scale)
    opinions["on-policy distillation by GRPO"] = trainers.on_policy_distillation
    opinions["MiniLLM of given returns by GRPO"] = trainers.minillm_of_given_returns
    opinions["k3 to a teacher by GRPO"] = trainers.k3_to_a_teacher
    opinions["KDRL by GRPO and SDPO"] = trainers.kdrl
    return opinions


def liger_opinions() -> dict[str, Opinion]:
    """liger-kernel's losses: what it said once, and what it says where it is installed."""
    opinions: dict[str, Opinion] = {}
    for name in liger.CASES | liger.KERNELS:
        opinions[f"recorded {name}"] = partial(liger.recorded, name=name)
        opinions[f"live {name}"] = partial(liger.live, name=name)
    return opinions


OPINIONS: dict[str, dict[str, Opinion]] = {
    "golden": golden_opinions(),
    "transformers": {"likelihood": trl.likelihood_of_transformers},
    "trl losses": trl_loss_opinions(),
    "trl trainers": trl_trainer_opinions(),
    "liger": liger_opinions(),
}
NEEDS_A_MODEL = ("trl trainers",)


@pytest.fixture(scope="module", autouse=True)
def quiet():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def bench(tiny_checkpoint, tmp_path_factory) -> trainers.Bench:
    return trainers.Bench(tiny_checkpoint, tmp_path_factory.mktemp("second_opinions"))


@pytest.mark.parametrize(
    ("source", "name"),
    [(source, name) for source, opinions in OPINIONS.items() for name in opinions],
)
def test_others_say_the_same(source: str, name: str, request: pytest.FixtureRequest) -> None:
    shared = request.getfixturevalue("bench") if source in NEEDS_A_MODEL else None
    compared = OPINIONS[source][name](shared)
    for comparison in compared if isinstance(compared, list) else [compared]:
        try:
            check(comparison)
        except AssertionError as error:
            error.add_note(f"in the comparison {comparison.label or 'without a label'}")
            raise


def test_the_golden_numbers_are_the_files(shared_data: Path) -> None:
    """They were copied by hand; where the file is at hand they are compared with it."""
    path = shared_data.parent / "methods" / "objectives-golden.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the real data")
    cases = {case["id"]: case["expected"] for case in json.loads(path.read_text("utf-8"))["cases"]}
    seen = 0
    for name, *_, expected in (*golden.LOSSES, *golden.GRADIENTS, *golden.DERIVED):
        known = flat(cases.get(name, ()))
        if (
            not known or name == "opd_advantage"
        ):  # its losses are the advantages with the other sign
            continue
        for value in filter(None, flat(expected)):
            assert min(abs(value - one) for one in known) <= 1e-11 * abs(value), name
            seen += 1
    assert seen > 200


def flat(value) -> list[float]:
    """Every number of nested data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number_inside for part in value for number_inside in flat(part)]
    return [float(value)]


def test_the_inputs_are_worth_comparing() -> None:
    """Both bounds of the clip are passed, and no two lengths of a pair are the same."""
    parts = liger.Parts()
    ratio = (likelihood.token_logp(parts.inputs()) - parts.before()[parts.kept]).exp()
    assert (ratio < 0.8).any() and (ratio > 1.28).any()
    assert all(liger.UNEVEN[i] != liger.UNEVEN[i + 3] for i in range(3))


# Where they compute something else.


OTHERS = {  # liger's, ours, what liger-kernel 0.8.5 said
    "cpo": (
        liger.liger_pairs("CPO", beta=0.3, alpha=0.5),
        liger.pairs(preference.cpo, beta=0.3, alpha=0.5),
        3.794456,
    ),
    "orpo": (liger.liger_pairs("ORPO", beta=0.3), liger.pairs(preference.orpo, lam=0.3), 4.575767),
    "simpo by default": (
        liger.liger_pairs("SimPO", beta=2.0, gamma=1.0),
        liger.pairs(preference.simpo),
        6.775458,
    ),
}


def likelihoods(parts):
    """Of the better sides: the mean of all tokens, and that of the pairs' means."""
    x = parts.inputs()
    values = likelihood.sft(x).values_N
    means = [values[x.groups_N == side].mean() for side in range(3)]
    return float(values[x.groups_N < 3].mean().detach()), float(sum(means).detach() / 3)


@pytest.mark.parametrize("name", OTHERS)
def test_ligers_likelihood_is_another_mean(name):
    """By hand: of the tokens of all better sides where ours is of the pairs; SimPO has it too, unless told."""
    parts, (_, ours, said) = liger.Parts(), OTHERS[name]
    by_tokens, by_pairs = likelihoods(parts)
    more = {
        "cpo": 0.5 * (by_tokens - by_pairs),
        "orpo": by_tokens - by_pairs,
        "simpo by default": by_tokens,
    }[name]
    mine = float(ours(parts).detach())
    assert mine + more == pytest.approx(said, rel=LIGER.rel, abs=LIGER.abs)
    assert mine == pytest.approx(
        {"cpo": 3.641171, "orpo": 4.269194, "simpo by default": 2.546819}[name], rel=1e-6
    )


@pytest.mark.parametrize("name", OTHERS)
def test_liger_takes_that_mean(name):
    theirs, _, said = OTHERS[name]
    assert float(theirs(liger.Parts()).detach()) == pytest.approx(
        said, rel=LIGER.rel, abs=LIGER.abs
    )


def liger_function(loss, name):
    module = pytest.importorskip(
        f"liger_kernel.chunked_loss.{loss.lower()}_loss", reason="liger-kernel is missing"
    )
    return getattr(getattr(module, f"LigerFusedLinear{loss}Function"), name)


def test_ligers_odds_of_near_certainty():
    """`log1p(-exp(x))` in float32: 1.3 % off at x = -1e-6, no number where both sides are certain."""
    close, certain = torch.tensor([-1e-6, -1.0]), torch.tensor([-1e-8, -1e-8])
    exact = 0.1 * math.log1p(
        math.exp(-(-1e-6 - math.log(-math.expm1(-1e-6)) + 1 + math.log(-math.expm1(-1))))
    )
    for logp, wanted in ((close, exact), (certain, 0.1 * math.log(2))):
        x = told(logp.double(), groups_N=torch.arange(2), pairs_P2=torch.tensor([[0, 1]]))
        odds = (preference.orpo(x, lam=0.1).values_N - preference.orpo(x, lam=0.0).values_N).sum()
        assert float(odds) == pytest.approx(wanted, rel=1e-5)
    assert exact == pytest.approx(5.819768e-8, rel=1e-6)
    said = [
        liger_function("ORPO", "preference_loss_fn")(*logp[:, None], torch.zeros(2, 1), beta=0.1)[0]
        for logp in (close, certain)
    ]
    assert float(said[0]) == pytest.approx(5.897055e-8, rel=1e-5) and said[1].isnan()


def test_ligers_kto_leaves_the_clamp_to_the_caller():
    """With kl = -2 and a desirable log-ratio of 0.5: 1 - s(0.25) there, 1 - s(0.05) here."""
    reference = torch.tensor([-1.5], dtype=torch.float64)
    x = told([-1.0], reference_N=reference, labels_S=torch.tensor([True]), kl=torch.tensor(-2.0))
    ours = float(preference.kto(x, beta=0.1).values_N.sum())
    assert ours == pytest.approx(1 - 1 / (1 + math.exp(-0.05))) == pytest.approx(0.487503, abs=5e-7)
    kto, good = liger_function("KTO", "preference_loss_fn"), torch.tensor([True])
    said = kto(torch.tensor([0.5]), good, torch.zeros(1, 1), beta=0.1, kl=torch.tensor(-2.0))[0]
    assert float(said) == pytest.approx(0.437823, abs=5e-7)


def test_ligers_divergence_of_other_vocabularies():
    """A token that only the teacher has and never says gets a logit of 0 from the student: 0.405 instead of 0.262."""
    wide = torch.cat([T, torch.full((3, 1), -1e4, dtype=torch.float64)], 1)
    assert float(divergence.forward_kl(inputs(S, wide)).values_N.mean()) == pytest.approx(
        0.262201, abs=5e-7
    )
    jsd = liger.chunked("JSD", beta=0.0, **liger.SOFT)
    said = jsd(
        S.float(), torch.eye(4), wide.float(), torch.eye(5), torch.zeros(3, dtype=torch.long)
    )
    assert float(said) == pytest.approx(0.405, abs=5e-4)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_ligers_divergence_with_a_banned_token(beta):
    banned = T.clone()
    banned[:, 3] = -torch.inf
    assert divergence.jsd(inputs(S, banned), beta=beta).values_N.isfinite().all()
    assert liger_function("JSD", "distillation_loss_fn")(S, banned, beta=beta).isnan()


ROW = {
    "messages": [
        {"role": "user", "content": "How many eggs?"},
        {"role": "assistant", "content": "16 eggs"},
    ]
}
STEP = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 1,
    "logging_steps": 1,
}
WRITERS = {  # TRL's trainers of students that write, and what they call the longest answer
    "gkd.GKD": "max_new_tokens",
    "iw_opd.IWOPD": "max_completion_length",
    "gold.GOLD": "max_completion_length",
}


def stepped(name, bench, monkeypatch, longest):
    """One step of two micro-batches that the student writes: (normaliser, counted, loss) of both, and coins tossed."""
    module, trainer = name.split(".")
    place, code = (
        import_module(f"trl.experimental.{module}{more}") for more in ("", f".{module}_trainer")
    )
    told = {
        **STEP,
        "lmbda": 1.0,
        WRITERS[name]: longest,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    kinds = (getattr(place, f"{trainer}{kind}") for kind in ("Trainer", "Config"))
    teacher = copy.deepcopy(bench.reference)
    made = bench.build(*kinds, [ROW] * 4, **told, teacher_model=teacher)
    seen, tosses, plain, toss = [], [], made.compute_loss, code.random.random

    def spied(model, batch, return_outputs=False, num_items_in_batch=None):
        loss = plain(model, batch, return_outputs, num_items_in_batch)
        seen.append(
            (
                int(num_items_in_batch),
                int((batch["labels"][:, 1:] != -100).sum()),
                float(loss.detach()),
            )
        )
        return loss

    monkeypatch.setattr(code, "random", SimpleNamespace(random=lambda: tosses.append(1) or toss()))
    monkeypatch.setattr(made, "compute_loss", spied)
    assert made.train().training_loss == pytest.approx(
        sum(loss for _, _, loss in seen)
    )  # divided by nothing more
    monkeypatch.undo()
    return seen, len(tosses)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "by"), [("gkd.GKD", 20), ("iw_opd.IWOPD", 40), ("gold.GOLD", 40)])
def test_written_tokens_are_divided_by_the_data_sets(name, by, bench, monkeypatch):
    """The normaliser is counted before anything is written: five tokens of four rows, however much is written.

    IW-OPD and GOLD count them twice, for their loader gives the batch of the whole step to each micro-batch.
    """
    pytest.importorskip(
        f"trl.experimental.{name.split('.')[0]}", reason="needs the extra potstill[dev]"
    )
    for longest in (12, 18):
        seen, tosses = stepped(name, bench, monkeypatch, longest)
        assert [count for _, count, _ in seen] == [
            2 * longest
        ] * 2  # of two rows each, to the limit
        assert [normaliser for normaliser, _, _ in seen] == [by, by]
        assert tosses == 2  # a coin for each micro-batch
