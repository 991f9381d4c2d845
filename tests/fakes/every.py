"""Inputs for every objective of the table, and what may be done to them without a change in the loss."""

from __future__ import annotations

import dataclasses

from golden import Hidden, Inputs, Logits, torch

from potstill.objectives import TABLE, find
from potstill.objectives.dskd import Across, CrossMaps
from potstill.objectives.inputs import Layers, OtherVocabulary, TokenLogp
from potstill.objectives.representation import Filters
from potstill.objectives.truncated import top_k

D = torch.float64
WIDTH, THEIRS, V, W = 4, 5, 9, 11
LENGTHS, OTHER = (3, 1, 4, 2), (2, 3, 4, 3)  # positions of the sequences on both sides
SETTINGS = {"taid": {"t": 0.4}, "kdrl": {"beta": 0.5, "guided": True}}
SETTINGS |= {name: {"beta": 0.05} for name in ("grpo", "sapo", "vespo")}
DISTRIBUTIONS = tuple(name for name, line in TABLE.items() if "distribution" in line.needs)
# (objective, constants, what of the teacher is there)
CASES = [(name, SETTINGS.get(name, {}), "states") for name in TABLE]
CASES += [(name, SETTINGS.get(name, {}), "logits") for name in DISTRIBUTIONS]
WHOLE = ("taid", "kid", "self_evolution", "dkpp")  # they want all of a teacher's distribution
CASES += [(name, {}, "entries") for name in DISTRIBUTIONS if name not in WHOLE]
CASES += [
    ("forward_kl", {"temperature": 2.0, "squared": True, "kd": 0.3}, "states"),
    ("forward_kl", {"tail": "teacher"}, "entries"),
    ("skew_reverse_kl", {"detach": True}, "states"),
    (
        "dpo",
        {"kind": "bco", "baseline": 0.2, "length_share": 0.5, "sft": 0.3, "smoothing": 0.1},
        "states",
    ),
    ("dpo", {"kind": "sppo"}, "states"),
    ("ipo", {"normalised": False}, "states"),
    ("grpo", {"ratio": "sequence", "beta": 0.05}, "states"),
    ("grpo", {"surrogate": "cispo"}, "states"),
    ("sapo", {"ratio": "sequence"}, "states"),
    ("opd", {"discount": 0.9}, "states"),
    ("minillm", {"mixed": 0.2}, "states"),
    ("contrastive", {"weighted": True}, "states"),
    ("uld", {"top": 3, "temperature": 2.0}, "states"),
    ("gold", {"rest": "uld", "ce": 1.0}, "states"),
    ("gold", {"rest": "renormalise"}, "states"),
    ("uld", {"merge": "bayesian"}, "states"),
    ("gold", {"merge": "bayesian", "rest": "uld"}, "states"),
]


def label(case):
    name, constants, kind = case
    return " ".join([name, kind, *(f"{key}={value}" for key, value in constants.items())])


def loss(case, x, **how):
    """The objective's loss."""
    name, constants, _ = case
    return find(name)(x, **constants, **how)


def made(case, seed=0):
    """All that the objective needs, float64: two pairs, which are two prompts with a good and a bad answer each."""
    name, _, kind = case
    torch.manual_seed(seed)
    n = sum(LENGTHS)
    needs = TABLE[name].needs
    targets = torch.randint(V - 2, (n,))
    return Inputs(
        torch.randn(n, WIDTH, dtype=D).requires_grad_(),
        torch.nn.Linear(WIDTH, V, dtype=D),
        targets,
        teacher=teacher(needs, kind, n),
        groups_N=torch.arange(4).repeat_interleave(torch.tensor(LENGTHS)),
        pairs_P2=torch.tensor([[0, 1], [3, 2]]),
        reference_N=-3 * torch.rand(n, dtype=D) - 0.5,
        sampled_N=-3 * torch.rand(n, dtype=D) - 0.5,
        advantages_N=torch.randn(n, dtype=D),
        labels_S=torch.tensor([True, False, False, True]),
        kl=torch.tensor(0.1, dtype=D),
        prompts_S=torch.tensor([0, 0, 1, 1]),
        scores_S=torch.tensor([0.9, 0.2, 0.3, 0.7], dtype=D),
        embedded_N2D=torch.randn(n, 2, WIDTH, dtype=D) if "own" in needs else None,
        layers=layers(name, n),
        projectors=maps(name),
    )


def teacher(needs, kind, n):
    head = torch.nn.Linear(THEIRS, V, dtype=D)
    if "distribution" in needs:
        states = 2 * torch.randn(n, THEIRS, dtype=D)
        logits = head(states).detach()
        return {
            "states": Hidden(states, head),
            "logits": Logits(logits),
            "entries": top_k(logits, 3),
        }[kind]
    if "logp" in needs:
        return TokenLogp(-3 * torch.rand(n, dtype=D) - 0.2)
    if not {"aligned", "own", "states"} & set(needs):
        return None
    m = sum(OTHER)
    mine, theirs = ((0, 0, 1, 2, 3, 4, 4, 5, 6, 6), (0, 1, 2, 2, -1, 3, 3, 4, 5, 6, 6, 6))
    return OtherVocabulary(
        2 * torch.randn(m, THEIRS, dtype=D),
        torch.nn.Linear(THEIRS, W, dtype=D),
        torch.randint(W - 2, (m,)),
        torch.arange(4).repeat_interleave(torch.tensor(OTHER)),
        torch.tensor(mine) if "aligned" in needs else None,
        torch.tensor(theirs) if "aligned" in needs else None,
        torch.tensor([[0, 8], [1, 0], [3, 3], [4, 2], [6, 5]]),
        torch.randn(m, 2, THEIRS, dtype=D),
    )


def layers(name, n):
    if name == "cot2align":
        sizes = ((n, WIDTH), (sum(OTHER), THEIRS))
    elif name in ("ted", "ted_filters"):
        sizes = ((n, WIDTH), (n, THEIRS))
    else:
        return None
    return Layers(*(tuple(torch.randn(size, dtype=D) for _ in range(2)) for size in sizes))


def maps(name):
    built = {"dskd": CrossMaps, "cot2align": Across, "ted": Filters, "ted_filters": Filters}
    if name not in built:
        return None
    return built[name](WIDTH, THEIRS, *(() if name == "dskd" else (2,))).to(D)


def picked(x, at):
    """The student's positions `at`, and what else is told of each."""
    of = x.teacher
    if isinstance(of, OtherVocabulary):
        of = of if of.aligned_N is None else of._replace(aligned_N=of.aligned_N[at])
    elif of is not None:
        of = type(of)(*(part[at] if isinstance(part, torch.Tensor) else part for part in of))
    columns = (
        "hidden_ND",
        "targets_N",
        "groups_N",
        "weights_N",
        "reference_N",
        "sampled_N",
        "advantages_N",
        "embedded_N2D",
    )
    told = {name: getattr(x, name) for name in columns}
    inner = x.layers and Layers(tuple(h[at] for h in x.layers.student), x.layers.teacher)
    if inner and not isinstance(of, OtherVocabulary):
        inner = Layers(inner.student, tuple(h[at] for h in inner.teacher))
    picks = {name: column if column is None else column[at] for name, column in told.items()}
    return dataclasses.replace(x, teacher=of, layers=inner, **picks)


def some(x, sequences):
    """These sequences alone, in this order, with their teacher; pairs and prompts numbered anew."""

    def positions(groups):
        parts = [(groups == s).nonzero().squeeze(1) for s in sequences]
        return torch.cat([torch.zeros(0, dtype=torch.long), *parts])

    where = {old: new for new, old in enumerate(sequences)}
    anew = lambda groups: torch.tensor([where[int(s)] for s in groups], dtype=torch.long)  # noqa: E731
    x = picked(x, positions(x.groups))
    if isinstance(x.teacher, OtherVocabulary):
        m = positions(x.teacher.sequences_M)
        fields = ("hidden_MDt", "targets_M", "sequences_M", "aligned_M", "embedded_M2Dt")
        told = {name: getattr(x.teacher, name) for name in fields}
        other = x.teacher._replace(
            **{name: column if column is None else column[m] for name, column in told.items()}
        )
        inner = x.layers and Layers(x.layers.student, tuple(h[m] for h in x.layers.teacher))
        x = dataclasses.replace(
            x, teacher=other._replace(sequences_M=anew(other.sequences_M)), layers=inner
        )
    pairs = [
        [where[int(a)], where[int(b)]] for a, b in x.pairs_P2.tolist() if a in where and b in where
    ]
    prompts = [int(x.prompts_S[s]) for s in sequences]
    return dataclasses.replace(
        x,
        groups_N=anew(x.groups),
        pairs_P2=torch.tensor(pairs, dtype=torch.long).reshape(-1, 2),
        labels_S=x.labels_S[sequences],
        scores_S=x.scores_S[sequences],
        prompts_S=torch.tensor(
            [sorted(set(prompts)).index(one) for one in prompts], dtype=torch.long
        ),
    )


def learnt(x):
    """All tensors that may get a gradient: states, head, maps."""
    parameters = list(x.head.parameters()) if isinstance(x.head, torch.nn.Module) else []
    return [
        x.hidden_ND,
        *parameters,
        *(x.projectors.parameters() if x.projectors is not None else []),
    ]


def gradients(total, of):
    """Of each of these tensors, 0 where it has none."""
    found = torch.autograd.grad(total, of, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, of, strict=True)]
