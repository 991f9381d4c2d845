"""The objectives by name: where each is, what its mean counts, and what it must be given. Imports no torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_type_hints

from potstill.errors import ConfigError

Per: TypeAlias = Literal["token", "sequence", "pair", "prompt"]


class Entry(NamedTuple):
    """An objective: its module in this package, what the normaliser counts, and which parts of `Inputs` it needs.

    distribution: a teacher's logits, states with a head, or kept entries. logp: the teacher's log-probability of each
    token. reference, pairs, labels, advantages, prompts, layers: the fields of those names. aligned: a teacher of
    another vocabulary with groups of bytes; shared: and the tokens that both have; states: a teacher's states, of any
    vocabulary; own: of another vocabulary, at its own positions; embedded: both sides' embeddings; maps: trained
    projections. mismatched: `kl`; returns: MiniLLM's, whitened over the step, as `advantages_N`.
    """

    module: str
    per: Per = "token"
    needs: tuple[str, ...] = ()


_DIVERGENCES = (
    "forward_kl",
    "reverse_kl",
    "jsd",
    "tvd",
    "skew_kl",
    "skew_reverse_kl",
    "adaptive_kl",
    "taid",
)
TABLE: Mapping[str, Entry] = MappingProxyType(
    {
        **dict.fromkeys(("sft", "dft", "unlikelihood", "length_balanced"), Entry("likelihood")),
        **dict.fromkeys(_DIVERGENCES, Entry("divergence", needs=("distribution",))),
        "distillm2": Entry("divergence", "pair", ("distribution", "pairs")),
        **dict.fromkeys(
            ("dpo", "step_dpo", "ipo", "exo", "discopop"),
            Entry("preference", "pair", ("pairs", "reference")),
        ),
        **dict.fromkeys(("simpo", "cpo", "orpo", "redi"), Entry("preference", "pair", ("pairs",))),
        "kto": Entry("preference", "sequence", ("labels", "reference", "mismatched")),
        **dict.fromkeys(
            ("token_kl", "opd", "trust_region", "iw_opd"), Entry("policy", needs=("logp",))
        ),
        "minillm": Entry("policy", needs=("logp", "returns")),
        **dict.fromkeys(("grpo", "sapo", "vespo"), Entry("policy", needs=("advantages",))),
        "kdrl": Entry("policy", needs=("logp", "advantages")),
        **dict.fromkeys(("uld", "multilevel_ot"), Entry("transport", needs=("aligned",))),
        "gold": Entry("transport", needs=("aligned", "shared")),
        "dskd": Entry("dskd", needs=("own", "embedded", "maps")),
        "cot2align": Entry("dskd", needs=("own", "maps")),
        "ted": Entry("representation", needs=("distribution", "layers", "maps")),
        "ted_filters": Entry("representation", needs=("layers", "maps")),
        "rkd": Entry("representation", "sequence", ("states",)),
        **dict.fromkeys(
            ("qcrd", "contrastive"), Entry("representation", "prompt", ("labels", "prompts"))
        ),
    }
)


def entry(name: str) -> Entry:
    """The objective's line of the table."""
    if name not in TABLE:
        raise ConfigError(
            f"no objective {name!r}",
            available=TABLE,
            wanted=name,
            fix="potstill train --objective …",
        )
    return TABLE[name]


def find(name: str) -> Callable[..., Any]:
    """The function."""
    function: Callable[..., Any] = getattr(
        import_module(f"potstill.objectives.{entry(name).module}"), name
    )
    return function


def constants(name: str) -> dict[str, Any]:
    """The constants that an objective takes, with their defaults."""
    found = inspect.signature(find(name)).parameters.values()
    named = {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY and p.name != "chunk"}
    if entry(name).module == "divergence":
        named |= {"temperature": 1.0, "squared": False, "kd": 1.0, "tail": "bucket"}
    return named


def kinds(name: str) -> dict[str, Any]:
    """What kind of value each of these constants is, as it is annotated."""
    found = get_type_hints(find(name))
    if entry(name).module == "divergence":
        from potstill.objectives.divergence import _divergence

        found |= get_type_hints(_divergence)
    return {constant: found[constant] for constant in constants(name)}
