"""What a student is to learn by: an objective, its constants, and where its other ingredients come from. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from potstill import objectives
from potstill.errors import ConfigError, ModelError, StoreError
from potstill.records import digest
from potstill.training import config_checks
from potstill.training.settings import ALIASES, SETTINGS

# Keywords of a stage that set a field of `ObjectiveConfig`.
LOOP: Mapping[str, str] = MappingProxyType(
    {
        name: name
        for name in (
            "teacher",
            "teacher_cache",
            "reference",
            "on_policy_fraction",
            "num_generations",
            "reward",
            "max_new_tokens",
            "loss_reduction",
            "rollout_temperature",
            "rollout_sampling",
            "replay_buffer_size",
            "num_iterations",
            "mask_truncated_completions",
            "schedule",
            "eval_rows",
            "eval_steps",
            "implicit_cot",
            "layers",
            "projector_lr",
            "filters",
        )
    }
)

# What the trainer knows to give an objective (`objectives.Entry.needs`); others want a loop of one's own.
GIVEN = (
    *("distribution", "logp", "reference", "pairs", "labels", "advantages", "prompts"),
    *("mismatched", "returns"),
    *("aligned", "shared", "own", "states", "embedded", "layers", "maps"),
)
ACROSS = ("aligned", "own", "states")  # a teacher that reads in tokens of its own
NEARBY = ("grpo", "sapo", "vespo")  # a beta above 0 keeps them near a reference
ALONE = "ted_filters"  # trains no student: what learns is stored beside it
Complaint: TypeAlias = tuple[
    bool, str, str
]  # whether it holds, what is wrong, what mends it (`values.remedy`)
FILTERS = Path("filters", "filters.safetensors")  # in a folder that no reader of weights opens


def trainable() -> tuple[str, ...]:
    """The objectives that the trainer can give all they need."""
    return tuple(name for name in objectives.TABLE if not _missing(name))


def _missing(objective: str) -> tuple[str, ...]:
    """What the trainer can't give an objective."""
    return tuple(sorted(set(objectives.entry(objective).needs) - set(GIVEN)))


@dataclass(frozen=True, slots=True)
class ObjectiveConfig:
    """An objective with what it needs.

    Args:
        objective: a name of `objectives.TABLE`.
        constants: its keyword arguments.
        teacher: a checkpoint of the same tokenizer whose distribution is distilled, or of any tokenizer where the
            objective compares across them; where only log-probabilities of tokens are asked, it may be a model that
            gives likelihoods (`Scored`), behind a server for instance.
        teacher_cache: a folder of stored teacher entries (`teacher.cached_logits`), instead of the teacher.
        reference: a checkpoint; None is the student as it starts.
        on_policy_fraction: share of the steps whose completions the student writes: 0 off-policy, 1 on-policy,
            between them GKD.
        num_generations: completions of a prompt in a step, where the student writes them.
        reward: of a problem and a text, a number; or a name of `training.rewards.NAMES`, or several with weights; None
            is 1.0 where the problem's verifier says right.
        rollout_temperature: of rollouts.
        max_new_tokens: tokens of a rollout at most.
        loss_reduction: what the loss of a token is averaged over; see `objectives.policy.means`.
        rollout_sampling: who writes rollouts: "student", or "speculative", student and teacher interleaved
            (`rollout.speculative`).
        replay_buffer_size: completions kept to be trained on again (DistiLLM); 0 is none. `on_policy_fraction` is then
            where the share of student text starts.
        num_iterations: steps that are made on what the student wrote for one (GRPO's mu): the second is off-policy
            already, which is what ratios and clips are for.
        mask_truncated_completions: whether a rollout that `max_new_tokens` cut is left out of the loss.
        schedule: constants that move in a line over the training, each (first, last).
        implicit_cot: constants of `objectives.internalise.Internalise`: rows lose their chain of thought from the left.
        eval_rows: rows held out to evaluate the student on; 0 evaluates on a few of those that are trained on.
        eval_steps: steps between two evaluations; 0 is ten of them a training, where there is a teacher or rollouts.
        layers: pairs of inner layers that TED compares; 0 is as many as the shallower model has.
        projector_lr: learning rate of trained projections between two models' spaces (DSKD, CoT2Align, TED).
        filters: what `ted_filters` trained, the first stage of TED, for `ted` to begin with: the folder of its student.
    """

    objective: str = "sft"
    constants: Mapping[str, Any] = field(default_factory=dict)
    teacher: Path | Any | None = None
    teacher_cache: Path | None = None
    reference: Path | None = None
    on_policy_fraction: float = 0.0
    num_generations: int = 1
    reward: Callable[[Any, str], float] | str | Mapping[str, float] | None = None
    rollout_temperature: float = 1.0
    max_new_tokens: int = 512
    loss_reduction: Literal["token", "sequence", "fixed"] = "token"
    rollout_sampling: Literal["student", "speculative"] = "student"
    replay_buffer_size: int = 0
    num_iterations: int = 1
    mask_truncated_completions: bool = False
    schedule: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    implicit_cot: Mapping[str, Any] = field(default_factory=dict)
    eval_rows: int = 0
    eval_steps: int = 0
    layers: int = 0
    projector_lr: float = 1e-3
    filters: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be trained, all at once: what is of a wrong kind first, then what contradicts itself."""
        needs = objectives.entry(self.objective).needs
        known = objectives.constants(self.objective)
        wrong = config_checks.fields(self, LOOP) + config_checks.constants(
            self.objective, self.constants
        )
        if wrong:
            raise ConfigError(
                f"objective {self.objective}: {'; '.join(wrong)}", fix=config_checks.remedy(())
            )
        found = [
            (text, remedy)
            for bad, text, remedy in (
                *self._of_constants(known),
                *self._of_needs(needs),
                *self._of_rollouts(needs, known),
                *self._of_spaces(needs),
            )
            if bad
        ]
        if found:
            said, remedies = zip(*dict.fromkeys(found))
            raise ConfigError(
                f"objective {self.objective}: {'; '.join(said)}", fix=config_checks.remedy(remedies)
            )

    def _of_constants(self, known: Mapping[str, Any]) -> tuple[Complaint, ...]:
        unknown = sorted(set(self.constants) - set(known))
        missing = _missing(self.objective)
        moved = sorted(set(self.schedule) - set(known))
        return (
            (
                bool(unknown),
                f"no constant {', '.join(unknown)} (known: {', '.join(known) or 'none'})",
                "",
            ),
            (bool(missing), f"no trainer gives it {', '.join(missing)} yet", ""),
            (
                bool(moved),
                f"no constant {', '.join(moved)} to move (known: {', '.join(known) or 'none'})",
                "",
            ),
        )

    def _of_needs(self, needs: tuple[str, ...]) -> tuple[Complaint, ...]:
        """What an objective is not given, or could make nothing of."""
        paired = bool({"pairs", "mismatched"} & set(needs)) and self.on_policy_fraction > 0
        local = "distribution" in needs and not (self.teacher or self.teacher_cache)
        advantages = "advantages" in needs
        return (
            (local, "a teacher= or teacher_cache= is needed", "teacher= or teacher_cache="),
            ("logp" in needs and not self.teacher, "a teacher= is needed", "teacher="),
            (
                advantages and self.on_policy_fraction != 1,
                "rewards are of the student's own samples: on_policy_fraction=1",
                "on_policy_fraction=1",
            ),
            (
                advantages and self.num_generations < 2,
                "advantages are within a group: num_generations=2 or more",
                "num_generations=4",
            ),
            (
                advantages and self.rollout_temperature == 0,
                "greedy completions of a group are all the same: rollout_temperature above 0",
                "rollout_temperature=1",
            ),
            (paired, "pairs are rows, not rollouts: on_policy_fraction=0", "on_policy_fraction=0"),
            (
                bool(self.teacher_cache) and self.on_policy_fraction > 0,
                "cached teacher logits belong to the rows they were made on: on_policy_fraction=0",
                "on_policy_fraction=0, or teacher= in the place of teacher_cache=",
            ),
        )

    def _of_rollouts(
        self, needs: tuple[str, ...], known: Mapping[str, Any]
    ) -> tuple[Complaint, ...]:
        """What contradicts itself among the settings of what is written, moved and watched."""
        mixed = bool(self.constants.get("mixed"))
        joint = self.rollout_sampling == "speculative" or mixed
        wire = self.teacher is not None and not isinstance(self.teacher, str | Path)
        others = bool(
            self.on_policy_fraction
            or self.replay_buffer_size
            or self.teacher_cache
            or {"pairs"} & set(needs)
        )
        return (
            (
                joint and not self.on_policy_fraction,
                "student and teacher write together where rollout is above 0",
                "on_policy_fraction=1",
            ),
            (
                joint and (not self.teacher or wire),
                "who writes together with the student is a local teacher=",
                "teacher=",
            ),
            (
                mixed and self.rollout_temperature != 1,
                "mixed sampling is at temperature 1",
                "rollout_temperature=1",
            ),
            (
                self.num_iterations > 1 and self.on_policy_fraction != 1,
                "iterations are of the student's own text: on_policy_fraction=1",
                "on_policy_fraction=1",
            ),
            (
                self.replay_buffer_size > 0 and self.on_policy_fraction == 1,
                "a buffer of student text grows from a share: rollout below 1",
                "on_policy_fraction=0.5",
            ),
            (
                self.replay_buffer_size > 0 and bool({"advantages", "pairs"} & set(needs)),
                "what is kept is text, not rewards or pairs",
                "replay_buffer_size=0",
            ),
            (
                wire and "distribution" in needs,
                "a server tells no distribution: give a checkpoint",
                "teacher=",
            ),
            (
                wire and not hasattr(self.teacher, "likelihood"),
                "the teacher gives no likelihoods",
                "teacher=",
            ),
            (
                bool(self.implicit_cot) and others,
                "implicit_cot= shortens rows: without rollouts, cached teacher logits and pairs",
                "",
            ),
        )

    def _of_spaces(self, needs: tuple[str, ...]) -> tuple[Complaint, ...]:
        """What contradicts itself where a teacher has tokens of its own, or inner layers are compared."""
        local = isinstance(self.teacher, str | Path)
        closer = self.across or "layers" in needs
        remote = closer and self.teacher is not None and not local
        shifting = self.across and (self.replay_buffer_size > 0 or bool(self.implicit_cot))
        together = self.across and self.rollout_sampling == "speculative"
        return (
            (closer and not self.teacher, "a teacher= is needed", "teacher="),
            (remote, "a server tells no states: give a checkpoint", "teacher="),
            (
                closer and bool(self.teacher_cache),
                "cached teacher logits are no states: teacher=",
                "teacher=",
            ),
            (shifting, "replay and internalise want one tokenizer", "replay_buffer_size=0"),
            (
                together,
                "student and teacher write together in the same tokens",
                "rollout_sampling=student",
            ),
            (
                "prompts" in needs and self.on_policy_fraction > 0,
                "rationales of a prompt are rows, not rollouts: on_policy_fraction=0",
                "on_policy_fraction=0",
            ),
            (
                self.filters is not None and self.objective != "ted",
                "filters are where ted begins",
                "",
            ),
            (
                self.objective == ALONE and bool(self.on_policy_fraction),
                "filters are trained on rows: on_policy_fraction=0",
                "on_policy_fraction=0",
            ),
        )

    @property
    def across(self) -> bool:
        """Whether the teacher reads in tokens of its own."""
        return bool(set(ACROSS) & set(objectives.entry(self.objective).needs))

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective must be given; staying near a reference, or pulling only what is wrong, needs more."""
        near = self.objective in NEARBY and (self.constants.get("beta") or "beta" in self.schedule)
        more = (("reference",) if near else ()) + (
            ("labels",) if self.constants.get("guided") else ()
        )
        return objectives.entry(self.objective).needs + more

    @property
    def paired(self) -> bool:
        """Whether every row must be a pair; kto takes single completions with labels too."""
        of = objectives.entry(self.objective).needs
        return bool({"pairs", "labels"} & set(of)) and "mismatched" not in of

    def notes(self) -> tuple[str, ...]:
        """What is no mistake and yet not what the objective's paper does."""
        sampled = "logp" in self.needs and "advantages" not in self.needs
        if not sampled or self.on_policy_fraction == 1:
            return ()
        share = (
            f"a share of {1 - self.on_policy_fraction:g} of the steps"
            if self.on_policy_fraction
            else "all steps"
        )
        told = f"{self.objective} learns the reverse KL only from what the student itself wrote, and {share}"
        return (
            f"{told} learn given rows, on which it is another loss: --set on_policy_fraction=1",
        )

    def identity(self) -> dict[str, Any]:
        """What of it can change the trained weights; checkpoints by their content."""
        from potstill.models.local import checkpoint

        made = {
            name: getattr(self, name)
            for name in (
                "on_policy_fraction",
                "num_generations",
                "rollout_temperature",
                "max_new_tokens",
                "loss_reduction",
            )
        }
        made["reward"] = called(self.reward) if self.reward else None
        for name in ("teacher", "reference"):
            path = getattr(self, name)
            own = getattr(path, "id", None)
            made[name] = own or (checkpoint.content_id(path) if path else "")
        later = (
            "rollout_sampling",
            "replay_buffer_size",
            "num_iterations",
            "mask_truncated_completions",
            "eval_rows",
            *(("eval_steps",) if self.replay_buffer_size else ()),
        )  # newer than first runs
        new = {f.name: getattr(self, f.name) for f in fields(self) if f.name in later}
        made |= {
            f.name: new[f.name] for f in fields(self) if f.name in new and new[f.name] != f.default
        }
        spaces = (
            {"layers": self.layers, "projector_lr": self.projector_lr}
            if "maps" in self.needs
            else {}
        )
        made |= spaces | (
            {"filters": checkpoint.file_digest(filters_of(self.filters))} if self.filters else {}
        )
        if self.implicit_cot:
            made["implicit_cot"] = {
                "reset": "True",
                **{k: str(v) for k, v in self.implicit_cot.items()},
            }
        made |= (
            {"schedule": {name: list(ends) for name, ends in self.schedule.items()}}
            if self.schedule
            else {}
        )
        return made | {
            "objective": self.objective,
            "constants": dict(self.constants),
            "teacher_cache": read_cache_manifest(self.teacher_cache) if self.teacher_cache else "",
        }


class Bound(NamedTuple):
    """The keywords of a stage, each where it belongs: the config, and settings of the training."""

    config: ObjectiveConfig
    settings: Mapping[str, Any]


def bind(objective: str, given: Mapping[str, Any]) -> Bound:
    """A stage's keywords bound to the loop (LOOP), the objective's constants, and settings of the training.

    A name that is both a constant and a setting (`clip` of the policy objectives) is the constant. Models stand for
    the checkpoint that holds their weights.
    """
    constants = objectives.constants(objective)
    given = {name if name in constants else ALIASES.get(name, name): given[name] for name in given}
    unknown = sorted(set(given) - set(constants) - set(LOOP) - set(SETTINGS))
    if unknown:
        raise ConfigError(
            f"objective {objective}: nothing is called {', '.join(unknown)}",
            expected=f"its constants ({', '.join(constants) or 'none'}), keywords of the loop, or training settings",
            available=(*constants, *LOOP, *SETTINGS),
            wanted=unknown[0],
            fix=config_checks.remedy(()),
        )
    loop = {field: given[name] for name, field in LOOP.items() if given.get(name) is not None}
    for name in ("teacher", "reference", "teacher_cache", "filters"):
        wire = (
            name == "teacher"
            and _scores_only(loop.get(name))
            and "logp" in objectives.entry(objective).needs
        )
        if name in loop and not wire:
            loop[name] = folder(loop[name], name)
    mine = {name: value for name, value in given.items() if name in constants}
    rest = {
        name: value for name, value in given.items() if name in SETTINGS and name not in constants
    }
    return Bound(ObjectiveConfig(objective, mine, **loop), rest)


def _scores_only(model: Any) -> bool:
    """Whether a model gives likelihoods, and has no weights here."""
    return hasattr(model, "likelihood") and getattr(model, "weights", None) is None


def folder(value: Any, role: str) -> Path:
    """The folder of a checkpoint or of cached teacher logits: a path, or the model whose weights lie there."""
    if isinstance(value, str | Path):
        return Path(value).expanduser()
    weights = getattr(value, "weights", None)
    if weights is None:
        raise ModelError(
            f"the {role} {getattr(value, 'id', value)} has no weights to read distributions from",
            expected="a local checkpoint with the student's tokenizer",
            fix=f"--{role} transformers:PATH, or store a server's entries, or distil from its texts (sft)",
        )
    return Path(weights)


def filters_of(folder: Path) -> Path:
    """The filters that a training stored beside its student."""
    file = folder / FILTERS
    if not file.is_file():
        raise ConfigError(
            f"no filters in {folder}",
            expected=f"{FILTERS}: a student of ted_filters",
            fix="filters=PATH",
        )
    return file


def called(function: Any) -> str:
    """The content id of a reward: its own `id`, or its name, source and defaults; refused where that is not all."""
    own = getattr(function, "id", None)
    if isinstance(own, str):
        return own
    if isinstance(function, str | Mapping):
        parts = {function: 1.0} if isinstance(function, str) else dict(function)
        return digest("reward", sorted(parts.items()))
    held = getattr(function, "__closure__", None) or ()
    if not inspect.isfunction(function) or held:
        raise ConfigError(
            f"the reward {getattr(function, '__qualname__', function)} holds more than its source shows",
            expected="a plain function, or an object with an `id` that changes whenever its values do",
            fix="give it an attribute id, as in: reward.id = 'brevity-100'",
        )
    try:
        source = inspect.getsource(function)
    except OSError:  # typed into a console
        source = function.__code__.co_code.hex()
    return digest("reward", [function.__qualname__, source, repr(function.__defaults__)])


def read_cache_manifest(folder: Path) -> str:
    """What the folder of a teacher's cached teacher logits says of itself, refused where it says nothing."""
    try:
        return (folder / "teacher_cache.json").read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"no cached teacher logits in {folder}, or they were never finished",
            expected="a folder with teacher_cache.json",
            fix=f"potstill cache-teacher --rows ROWS --teacher SPEC --out {folder}",
        ) from None
