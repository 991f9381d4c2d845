"""The objectives by name: where each is, what its mean counts, and what it must be given. Imports no torch.

`sft` is supervised fine-tuning, `grpo` the policy gradient of group advantages, `opd` on-policy distillation. An
objective is a function in one module of this package and a line of TABLE; what it asks of the training beside its loss
(options, checks, schedules, projections) are the `HOOKS` of its module.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_type_hints

from potstill.errors import ConfigError
from potstill.objectives.hooks import DEFAULT, Hooks

Normaliser: TypeAlias = Literal["token", "sequence", "pair", "prompt"]


class Objective(NamedTuple):
    """A line of the table.

    Needs, each a part of `Inputs` that the training loop makes:

    - distribution: a teacher's logits, states with a head, or cached logits. logp: the teacher's log-probability of
      each token.
    - reference, pairs, labels, advantages, prompts, layers: the fields of those names.
    - aligned: a teacher of another vocabulary with groups of bytes; shared: and the tokens that both have; states: a
      teacher's states, of any vocabulary; own: of another vocabulary, at its own positions; embedded: both sides'
      embeddings.
    - replaced: tokens of the student's own in its rows (`Hooks.replaced_share`), marked.
    - projectors: trained projections between the two models' spaces.
    - mismatched: `kl`, of prompts with other prompts' completions; returns: `Hooks.step_returns`, whitened over the
      step, as `advantages_N`.

    Args:
        module: the module of this package that has the function of the objective's name.
        normaliser: what the loss is averaged over.
        needs: see above.
    """

    module: str
    normaliser: Normaliser = "token"
    needs: tuple[str, ...] = ()


TABLE: Mapping[str, Objective] = MappingProxyType(
    {
        "sft": Objective("likelihood"),
        "dft": Objective("likelihood"),
        "unlikelihood": Objective("likelihood"),
        "length_balanced": Objective("likelihood"),
        "implicit_cot": Objective("implicit_cot"),
        "forward_kl": Objective("divergence", needs=("distribution",)),
        "reverse_kl": Objective("divergence", needs=("distribution",)),
        "jsd": Objective("divergence", needs=("distribution",)),
        "tvd": Objective("divergence", needs=("distribution",)),
        "skew_kl": Objective("divergence", needs=("distribution",)),
        "skew_reverse_kl": Objective("divergence", needs=("distribution",)),
        "adaptive_kl": Objective("divergence", needs=("distribution",)),
        "taid": Objective("divergence", needs=("distribution",)),
        "self_evolution": Objective("divergence", needs=("distribution",)),
        "cwtm": Objective("divergence", needs=("distribution",)),
        "dkpp": Objective("divergence", needs=("distribution",)),
        "kid": Objective("divergence", needs=("distribution", "replaced")),
        "distillm2": Objective("divergence", "pair", ("distribution", "pairs")),
        "dpo": Objective("preference", "pair", ("pairs", "reference")),
        "step_dpo": Objective("preference", "pair", ("pairs", "reference")),
        "ipo": Objective("preference", "pair", ("pairs", "reference")),
        "exo": Objective("preference", "pair", ("pairs", "reference")),
        "discopop": Objective("preference", "pair", ("pairs", "reference")),
        "simpo": Objective("preference", "pair", ("pairs",)),
        "cpo": Objective("preference", "pair", ("pairs",)),
        "orpo": Objective("preference", "pair", ("pairs",)),
        "redi": Objective("preference", "pair", ("pairs",)),
        "kto": Objective("preference", "sequence", ("labels", "reference", "mismatched")),
        "token_kl": Objective("policy", needs=("logp",)),
        "opd": Objective("policy", needs=("logp",)),
        "trust_region": Objective("policy", needs=("logp",)),
        "iw_opd": Objective("policy", needs=("logp",)),
        "minillm": Objective("policy", needs=("logp", "returns")),
        "grpo": Objective("policy", needs=("advantages",)),
        "sapo": Objective("policy", needs=("advantages",)),
        "vespo": Objective("policy", needs=("advantages",)),
        "kdrl": Objective("policy", needs=("logp", "advantages")),
        "uld": Objective("transport", needs=("aligned",)),
        "multilevel_ot": Objective("transport", needs=("aligned",)),
        "gold": Objective("transport", needs=("aligned", "shared")),
        "dskd": Objective("dskd", needs=("own", "embedded", "projectors")),
        "cot2align": Objective("dskd", needs=("own", "projectors")),
        "ted": Objective("representation", needs=("distribution", "layers", "projectors")),
        "ted_filters": Objective("representation", needs=("layers", "projectors")),
        "rkd": Objective("representation", "sequence", ("states",)),
        "qcrd": Objective("representation", "prompt", ("labels", "prompts")),
        "contrastive": Objective("representation", "prompt", ("labels", "prompts")),
    }
)


def entry(name: str) -> Objective:
    """The objective's line of the table."""
    if name not in TABLE:
        raise ConfigError(
            f"no objective {name!r}",
            available=TABLE,
            wanted=name,
            fix="potstill train --objective …",
        )
    return TABLE[name]


def _module(name: str) -> Any:
    return import_module(f"potstill.objectives.{entry(name).module}")


def find(name: str) -> Callable[..., Any]:
    """The loss function."""
    function: Callable[..., Any] = getattr(_module(name), name)
    return function


def hooks(name: str) -> Hooks:
    """What the objective asks of a training beside its loss."""
    hooks_by_name = getattr(_module(name), "HOOKS", {})
    objective_hooks: Hooks = hooks_by_name.get(name, DEFAULT)
    return objective_hooks


def _takes_divergence_keywords(name: str) -> bool:
    """Whether what its loss does not name goes on to `divergence._divergence`."""
    parameters = inspect.signature(find(name)).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def constants(name: str) -> dict[str, Any]:
    """The constants of an objective's loss, with their defaults."""
    defaults = {}
    for parameter in inspect.signature(find(name)).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "chunk":
            defaults[parameter.name] = parameter.default
    if _takes_divergence_keywords(name):
        defaults |= {"temperature": 1.0, "squared": False, "kd": 1.0, "tail": "bucket"}
    return defaults


def constant_types(name: str) -> dict[str, Any]:
    """The annotated type of each of these constants."""
    hints = get_type_hints(find(name))
    if _takes_divergence_keywords(name):
        from potstill.objectives.divergence import _divergence

        hints |= get_type_hints(_divergence)
    return {constant: hints[constant] for constant in constants(name)}


def options(name: str) -> dict[str, Any]:
    """The options of an objective, which are no arguments of its loss, with their defaults."""
    return {field.name: field.default for field in dataclasses.fields(hooks(name).options)}


def option_types(name: str) -> dict[str, Any]:
    """The annotated type of each of these options."""
    return get_type_hints(hooks(name).options)


def keywords(name: str) -> dict[str, Any]:
    """All that can be set of an objective, constants and options, with their defaults."""
    return {**constants(name), **options(name)}


def keyword_types(name: str) -> dict[str, Any]:
    """The annotated type of each of these keywords."""
    return {**constant_types(name), **option_types(name)}
