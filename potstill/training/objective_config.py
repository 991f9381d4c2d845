"""What a student learns by: an objective, its constants and options, and where its inputs come from. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from potstill import objectives
from potstill.difficulty import mistake_in_pools
from potstill.errors import ConfigError, ModelError, StoreError
from potstill.models.token_scoring import TokenScored
from potstill.objectives.hooks import Hooks, Mistake
from potstill.records import digest
from potstill.template import template_names
from potstill.training import config_checks, teacher_checks
from potstill.training.settings import ALIASES, SETTINGS

# The needs (`objectives.Objective`) that the training loop can fill; an objective with others wants a loop of its own.
PROVIDED_NEEDS = (
    *("distribution", "logp", "reference", "pairs", "labels", "advantages", "prompts"),
    *("mismatched", "returns", "replaced"),
    *("aligned", "shared", "own", "states", "embedded", "layers", "projectors"),
)
OTHER_TOKENIZER_NEEDS = ("aligned", "own", "states")  # the teacher reads in tokens of its own
# Names in a teacher's prompt that stand for what is known of a rollout once it is judged.
FEEDBACK_NAMES = ("attempt", "verdict", "feedback", "right_attempt")
TEACHER_PROMPT_NAMES = (
    *("question", "answer", "solution", "choices", "table", "prompt", "teacher_prompt"),
    *FEEDBACK_NAMES,
)
MANIFEST = "teacher_cache.json"  # in a folder of cached teacher logits, written last
PROJECTORS = Path(
    "projectors", "projectors.safetensors"
)  # in a folder that no reader of weights opens


def trainable() -> tuple[str, ...]:
    """The objectives that the training loop can give all they need."""
    return tuple(name for name in objectives.TABLE if not _unfilled_needs(name))


def _unfilled_needs(objective: str) -> list[str]:
    return sorted(set(objectives.entry(objective).needs) - set(PROVIDED_NEEDS))


@dataclass(frozen=True, slots=True)
class ObjectiveConfig:
    """An objective with what it needs. What only one objective needs is among its constants and options.

    Args:
        objective: a name of `objectives.TABLE`.
        constants: keyword arguments of its loss.
        options: its other settings (`objectives.options`).
        teacher: a checkpoint of the same tokenizer whose distribution is distilled, or of any tokenizer where the
            objective compares across them; where only log-probabilities of tokens are asked, it may be a model that
            gives likelihoods (`Scored`), on a server for instance, and with `loss_top_k` one that scores tokens
            (`TokenScored`).
        teachers: several, by name, in the place of one: checkpoints or servers.
        teacher_by: the metadata of a row's problem that names its teacher, such as "teacher_id" or "domain"; "kind",
            its kind; or "average", all teachers for each row, their probabilities averaged.
        teacher_cache: a folder of cached teacher logits (`teacher.cached_logits`), instead of the teacher.
        teacher_model_kind: the student as its own teacher: "base" as it starts (under adapters without them), "live" as
            it is at each step, without gradient, "ema" a moving average of it; "" is no teacher of this kind.
        teacher_update_rate: the student's share in each update of "ema".
        teacher_sync_steps: steps between two updates of "ema".
        teacher_prompt_template: what the teacher reads in the place of each row's prompt (`TEACHER_PROMPT_NAMES`);
            "" leaves it to the rows' `teacher_prompt`.
        reference: a checkpoint; None is the student as it starts.
        on_policy_fraction: share of the steps whose completions the student writes: 0 off-policy, 1 on-policy.
        num_generations: completions of a prompt in a step, where the student writes them.
        reward: of a problem and a text, a number; or a name of `rollout.rewards.NAMES`, or several with weights; None
            is 1.0 where the problem's verifier says right.
        max_new_tokens: tokens of a rollout at most.
        loss_reduction: what the loss of a token is averaged over; see `objectives.policy.means`.
        rollout_temperature: temperature of rollouts.
        rollout_sampling: who writes rollouts: "student", or "speculative", student and teacher interleaved
            (`objectives.joint_sampling`).
        rollout_server: servers that write rollouts in the student's place, URLs with commas between them; they are
            given its weights (`rollout.rollout_servers`).
        rollout_backend: what kind of server that is.
        rollout_weights_dir: a folder through which they get weights, under the same path there.
        rollout_sync_steps: steps between two updates of their weights; in between their texts are of older ones.
        rollout_importance_cap: the most that a token's weight p_student / p_server may be; 0 weighs none.
        max_rollout_drift: nats a token by which a server's log-probabilities may differ on fresh weights.
        rollout_tool: what a rollout may call (`rollout.tools`): "python", a program in a sandbox, or "table", a query
            on its problem's table; "" is none.
        max_tool_calls: calls of one rollout at most.
        max_observation_tokens: tokens of what a call returns at most; they count towards `max_new_tokens`.
        replay_buffer_size: completions kept to be trained on again; 0 is none. `on_policy_fraction` is then where the
            share of student text starts, which grows with the evaluation loss.
        num_iterations: steps made on the same rollouts: the second is off-policy already, which is what ratios and
            clips are for.
        difficulty_pools: pools of prompts by the student's latest pass rate on each, as name: (highest pass rate,
            weight); a weight of 0 drops a pool, and prompts that were never asked weigh 1.
        recheck_steps: steps for which a prompt is set aside whose completions were all worth the same, and after which
            a prompt's pass rate is forgotten, so that it is asked again; 0 sets none aside and forgets nothing.
        max_resample_times: how often, in a step, a group of completions that are all worth the same is replaced by
            one of another prompt.
        mask_truncated_completions: leave rollouts that `max_new_tokens` cut out of the loss.
        schedule: constants that move in a line over the training, each (first, last).
        loss_top_k: entries of the teacher's distribution at each token, where a server tells them, or where several
            checkpoints are loaded in turn; the constant `tail` says what becomes of the rest. 0 is a whole
            distribution, which only teachers at hand have.
        eval_rows: rows held out to evaluate the student on; 0 evaluates on a few of those that are trained on.
        eval_steps: steps between two evaluations; 0 is ten a training with rollouts, three of one with a teacher alone.
    """

    objective: str = "sft"
    constants: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    teacher: Path | Any | None = None
    teacher_cache: Path | None = None
    teacher_model_kind: Literal["", "base", "live", "ema"] = ""
    teacher_update_rate: float = 0.05
    teacher_sync_steps: int = 1
    teacher_prompt_template: str = ""
    reference: Path | None = None
    on_policy_fraction: float = 0.0
    num_generations: int = 1
    reward: Callable[[Any, str], float] | str | Mapping[str, float] | None = None
    max_new_tokens: int = 512
    loss_reduction: Literal["token", "sequence", "fixed"] = "token"
    rollout_temperature: float = 1.0
    rollout_sampling: Literal["student", "speculative"] = "student"
    rollout_server: str = ""
    rollout_backend: Literal["potstill", "sglang", "vllm"] = "potstill"
    rollout_weights_dir: str = ""
    rollout_sync_steps: int = 1
    rollout_importance_cap: float = 2.0
    max_rollout_drift: float = 0.05
    rollout_tool: Literal["", "python", "table"] = ""
    max_tool_calls: int = 2
    max_observation_tokens: int = 128
    replay_buffer_size: int = 0
    num_iterations: int = 1
    difficulty_pools: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    recheck_steps: int = 0
    max_resample_times: int = 0
    mask_truncated_completions: bool = False
    schedule: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    eval_rows: int = 0
    eval_steps: int = 0
    loss_top_k: int = 0
    teachers: Mapping[str, Any] = field(default_factory=dict)
    teacher_by: str = ""

    def __post_init__(self) -> None:
        """Refuse what can't be trained, all at once: values of wrong kinds first, then what contradicts itself."""
        objectives.entry(self.objective)
        wrong_values = [
            *config_checks.field_mistakes(self),
            *config_checks.constant_mistakes(self.objective, self.constants),
            *config_checks.option_mistakes(self.objective, self.options),
        ]
        if wrong_values:
            raise ConfigError(
                f"objective {self.objective}: {'; '.join(wrong_values)}",
                fix=config_checks.describe_fix(()),
            )

        # Of values of the right kinds: what they contradict.
        mistakes = [
            *self.hooks.option_mistakes(self.option_values),
            *self._mistakes_in_constants(),
            *self._mistakes_in_inputs(),
            *self._mistakes_in_rollouts(),
            *self._mistakes_in_rollout_server(),
            *self._mistakes_in_rollout_tool(),
            *self._mistakes_in_teacher(),
            *teacher_checks.several_teachers_mistakes(self),
            *self._mistakes_in_own_teacher(),
            *self._mistakes_in_prompt_choice(),
        ]
        if mistakes:
            distinct = list(dict.fromkeys(mistakes))
            raise ConfigError(
                f"objective {self.objective}: {'; '.join(mistake.message for mistake in distinct)}",
                fix=config_checks.describe_fix([mistake.fix for mistake in distinct]),
            )

    def _mistakes_in_constants(self) -> list[Mistake]:
        known_names = objectives.constants(self.objective)
        listed = ", ".join(known_names) or "none"
        mistakes = []
        unknown = sorted(set(self.constants) - set(known_names))
        if unknown:
            mistakes.append(Mistake(f"no constant {', '.join(unknown)} (known: {listed})"))
        unfilled = _unfilled_needs(self.objective)
        if unfilled:
            mistakes.append(Mistake(f"no trainer gives it {', '.join(unfilled)} yet"))
        unknown = sorted(set(self.schedule) - set(known_names))
        if unknown:
            mistakes.append(Mistake(f"no constant {', '.join(unknown)} to move (known: {listed})"))
        return mistakes

    def _mistakes_in_inputs(self) -> list[Mistake]:
        """What the objective is not given, or could make nothing of."""
        needs = objectives.entry(self.objective).needs
        mistakes = []
        if "distribution" in needs and not (self.has_teacher or self.teacher_cache):
            mistakes.append(
                Mistake("a teacher= or teacher_cache= is needed", "teacher= or teacher_cache=")
            )
        if "logp" in needs and not self.has_teacher:
            mistakes.append(Mistake("a teacher= is needed", "teacher="))
        if "advantages" in needs and self.on_policy_fraction != 1:
            mistakes.append(
                Mistake(
                    "rewards are of the student's own samples: on_policy_fraction=1",
                    "on_policy_fraction=1",
                )
            )
        if "advantages" in needs and self.num_generations < 2:
            mistakes.append(
                Mistake(
                    "advantages are within a group: num_generations=2 or more", "num_generations=4"
                )
            )
        if "advantages" in needs and self.rollout_temperature == 0:
            mistakes.append(
                Mistake(
                    "greedy completions of a group are all the same: rollout_temperature above 0",
                    "rollout_temperature=1",
                )
            )
        if self.on_policy_fraction and {"pairs", "mismatched"} & set(needs):
            mistakes.append(
                Mistake(
                    "pairs are rows, not rollouts: on_policy_fraction=0", "on_policy_fraction=0"
                )
            )
        if self.on_policy_fraction and "prompts" in needs:
            mistakes.append(
                Mistake(
                    "rationales of a prompt are rows, not rollouts: on_policy_fraction=0",
                    "on_policy_fraction=0",
                )
            )
        if self.on_policy_fraction and self.teacher_cache:
            mistakes.append(
                Mistake(
                    "cached teacher logits belong to the rows they were made on: on_policy_fraction=0",
                    "on_policy_fraction=0, or teacher= in the place of teacher_cache=",
                )
            )
        return mistakes

    def _mistakes_in_rollouts(self) -> list[Mistake]:
        """What contradicts itself among the settings of what the student writes."""
        needs = objectives.entry(self.objective).needs
        mistakes = []
        if self.writes_with_teacher and not self.on_policy_fraction:
            mistakes.append(
                Mistake(
                    "student and teacher write together where on_policy_fraction is above 0",
                    "on_policy_fraction=1",
                )
            )
        if self.writes_with_teacher and not isinstance(self.teacher, str | Path):
            mistakes.append(
                Mistake("who writes together with the student is a local teacher=", "teacher=")
            )
        if self.teacher_share and self.rollout_temperature != 1:
            mistakes.append(Mistake("mixed sampling is at temperature 1", "rollout_temperature=1"))
        if self.num_iterations > 1 and self.on_policy_fraction != 1:
            mistakes.append(
                Mistake(
                    "num_iterations is of the student's own text: on_policy_fraction=1",
                    "on_policy_fraction=1",
                )
            )
        if self.replay_buffer_size and self.on_policy_fraction == 1:
            mistakes.append(
                Mistake(
                    "a replay buffer grows from a share of the steps: on_policy_fraction below 1",
                    "on_policy_fraction=0.5",
                )
            )
        if self.replay_buffer_size and {"advantages", "pairs"} & set(needs):
            mistakes.append(
                Mistake("a replay buffer holds text, not rewards or pairs", "replay_buffer_size=0")
            )
        if self.writes_rows and not self.hooks.trains_student:
            mistakes.append(
                Mistake(
                    "projections are trained on rows: on_policy_fraction=0", "on_policy_fraction=0"
                )
            )
        if self.writes_rows and self.shortens_rows:
            mistakes.append(
                Mistake(
                    "only given rows can be shortened: on_policy_fraction=0", "on_policy_fraction=0"
                )
            )
        if self.replaced_share and (self.writes_rows or self.teacher_cache):
            mistakes.append(
                Mistake(
                    "the student's tokens are put into given rows, which a teacher at hand reads",
                    "on_policy_fraction=0, teacher= in the place of teacher_cache=",
                )
            )
        return mistakes

    def _mistakes_in_rollout_server(self) -> list[Mistake]:
        """What contradicts itself where a server writes rollouts."""
        if not self.rollout_server:
            of_servers = ("rollout_backend", "rollout_weights_dir", "rollout_sync_steps")
            defaults = {f.name: f.default for f in fields(self)}
            unused = [name for name in of_servers if getattr(self, name) != defaults[name]]
            if not unused:
                return []
            message = f"{', '.join(unused)}: of a rollout_server, which is not named"
            return [Mistake(message, "rollout_server=http://127.0.0.1:8747/v1")]
        mistakes = []
        if self.on_policy_fraction == 0:
            message = "a rollout_server writes what the student would: on_policy_fraction above 0"
            mistakes.append(Mistake(message, "on_policy_fraction=1"))
        if not self.rollout_weights_dir:
            message = "a rollout_server is given weights through a folder: rollout_weights_dir="
            mistakes.append(Mistake(message, "rollout_weights_dir=/shared/weights"))
        if self.writes_with_teacher:
            message = "student and teacher write together in this process alone: rollout_server="
            mistakes.append(Mistake(message, "rollout_server="))
        return mistakes

    def _mistakes_in_rollout_tool(self) -> list[Mistake]:
        """What contradicts itself where rollouts call a tool."""
        if not self.rollout_tool:
            if (self.max_tool_calls, self.max_observation_tokens) == (2, 128):
                return []
            message = (
                "max_tool_calls, max_observation_tokens: of a rollout_tool, which is not named"
            )
            return [Mistake(message, "rollout_tool=python")]
        mistakes = []
        if self.on_policy_fraction == 0:
            message = (
                "what calls a rollout_tool is the student's own text: on_policy_fraction above 0"
            )
            mistakes.append(Mistake(message, "on_policy_fraction=1"))
        if self.max_new_tokens <= self.max_observation_tokens:
            message = "an observation of max_observation_tokens leaves no room in max_new_tokens"
            fix = f"max_new_tokens={4 * self.max_observation_tokens}"
            mistakes.append(Mistake(message, fix))
        # Who would write or read the turns otherwise than the loop of this process does.
        if self.writes_with_teacher:
            message = "with a rollout_tool the student writes alone: no teacher's share in sampling"
            mistakes.append(Mistake(message, "rollout_sampling=student"))
        if self.rollout_server:
            message = "a rollout_tool is called in this process alone: rollout_server="
            mistakes.append(Mistake(message, "rollout_server="))
        if self.replay_buffer_size:
            message = "a replay buffer holds no calls of a rollout_tool: replay_buffer_size=0"
            mistakes.append(Mistake(message, "replay_buffer_size=0"))
        if self.crosses_tokenizers:
            message = (
                "observations of a rollout_tool can't be told apart in another tokenizer's tokens"
            )
            mistakes.append(Mistake(message, "rollout_tool="))
        if self.is_teacher_served:
            message = "observations of a rollout_tool are for a teacher at hand: give a checkpoint"
            mistakes.append(Mistake(message, "teacher="))
        return mistakes

    def _mistakes_in_teacher(self) -> list[Mistake]:
        """What contradicts itself where a teacher is a server, has tokens of its own, or gives its states."""
        needs = objectives.entry(self.objective).needs
        is_server = self.is_teacher_served
        compares_states = self.crosses_tokenizers or "layers" in needs
        mistakes = []
        if "distribution" in needs:
            mistakes += teacher_checks.top_k_mistakes(self)
        elif self.loss_top_k:
            mistakes.append(
                Mistake("loss_top_k is of a teacher's distribution: loss_top_k=0", "loss_top_k=0")
            )
        gives_scores = isinstance(self.teacher, TokenScored) or hasattr(self.teacher, "likelihood")
        if is_server and not self.teachers and not gives_scores:
            mistakes.append(Mistake("the teacher gives no likelihoods", "teacher="))
        if is_server and compares_states:
            mistakes.append(Mistake("a server tells no states: give a checkpoint", "teacher="))
        if compares_states and not self.teacher:
            mistakes.append(Mistake("a teacher= is needed", "teacher="))
        if compares_states and self.teacher_cache:
            mistakes.append(Mistake("cached teacher logits are no states: teacher=", "teacher="))
        if self.crosses_tokenizers and self.replay_buffer_size:
            mistakes.append(Mistake("a replay buffer wants one tokenizer", "replay_buffer_size=0"))
        if self.crosses_tokenizers and self.rollout_sampling == "speculative":
            mistakes.append(
                Mistake(
                    "student and teacher write together in the same tokens",
                    "rollout_sampling=student",
                )
            )
        return mistakes

    def _mistakes_in_own_teacher(self) -> list[Mistake]:
        """What contradicts itself where the student teaches itself, or a teacher has a prompt of its own."""
        mistakes = []
        if self.teacher_model_kind:
            if self.teacher or self.teacher_cache:
                mistakes.append(
                    Mistake(
                        "the student is its own teacher, or another model is", "teacher_model_kind="
                    )
                )
            if self.writes_with_teacher or self.crosses_tokenizers or "layers" in self.needs:
                mistakes.append(
                    Mistake("a student can't be its own teacher here: teacher=", "teacher=")
                )
        elif self.teacher_prompt_template and not self.has_teacher:
            mistakes.append(
                Mistake("teacher_prompt_template wants a teacher", "teacher_model_kind=base")
            )
        is_moving = self.teacher_model_kind == "ema"
        if not is_moving and (self.teacher_update_rate, self.teacher_sync_steps) != (0.05, 1):
            mistakes.append(Mistake("only a moving average is updated", "teacher_model_kind=ema"))
        names = template_names(self.teacher_prompt_template)
        for name in sorted(names - set(TEACHER_PROMPT_NAMES)):
            mistakes.append(
                Mistake(
                    f"teacher_prompt_template has the unknown name {{{name}}} "
                    f"(known: {', '.join(TEACHER_PROMPT_NAMES)}; literal braces are doubled)"
                )
            )
        if not self.needs_feedback:
            return mistakes
        if self.on_policy_fraction != 1:
            mistakes.append(
                Mistake(
                    "feedback is on what the student writes: on_policy_fraction=1",
                    "on_policy_fraction=1",
                )
            )
        if self.teacher and not isinstance(self.teacher, str | Path):
            mistakes.append(
                Mistake("a server is asked about rows, without feedback", "teacher_model_kind=base")
            )
        return mistakes

    def _mistakes_in_prompt_choice(self) -> list[Mistake]:
        """What contradicts itself where prompts are chosen by the student's pass rates."""
        if not self.chooses_prompts:
            return []
        mistakes = []
        if self.on_policy_fraction != 1:
            mistakes.append(
                Mistake(
                    "prompts are chosen for what the student writes: on_policy_fraction=1",
                    "on_policy_fraction=1",
                )
            )
        waits_for_spread = self.max_resample_times or (
            self.recheck_steps and not self.difficulty_pools
        )
        if waits_for_spread and "advantages" not in self.needs:
            mistakes.append(
                Mistake("without rewards no completions are worth the same", "max_resample_times=0")
            )
        if self.difficulty_pools:
            mistake = mistake_in_pools(self.difficulty_pools)
            if mistake:
                mistakes.append(Mistake(mistake, "difficulty_pools={}"))
        return mistakes

    @property
    def chooses_prompts(self) -> bool:
        """Whether the student writes on other prompts than planned, by its pass rates."""
        return bool(self.difficulty_pools or self.recheck_steps or self.max_resample_times)

    @property
    def has_teacher(self) -> bool:
        """Whether a model is asked: another one, or the student itself."""
        return bool(self.teacher or self.teachers or self.teacher_model_kind)

    @property
    def needs_feedback(self) -> bool:
        """Whether the teacher's prompt can only be filled once the student's text is judged."""
        return bool(template_names(self.teacher_prompt_template) & set(FEEDBACK_NAMES))

    @property
    def rewards_by_teacher(self) -> bool:
        """Whether the teacher is asked how likely it finds a completion."""
        names = [self.reward] if isinstance(self.reward, str) else self.reward
        return isinstance(names, list | Mapping) and "teacher" in names

    @property
    def is_teacher_served(self) -> bool:
        """Whether a teacher is no checkpoint at hand."""
        return bool(teacher_checks.served_teachers(self))

    @property
    def asks_tokens(self) -> bool:
        """Whether teachers are asked by token ids: for their likeliest tokens, or where they score no texts."""
        if self.teachers:
            return self.is_teacher_served or self.loss_top_k > 0
        if not self.is_teacher_served:
            return False
        return self.loss_top_k > 0 or not hasattr(self.teacher, "likelihood")

    @property
    def hooks(self) -> Hooks:
        """What the objective asks of the training beside its loss."""
        return objectives.hooks(self.objective)

    @property
    def option_values(self) -> Any:
        """The options as the objective's dataclass."""
        return self.hooks.options(**self.options)

    @property
    def crosses_tokenizers(self) -> bool:
        """Whether the teacher reads in tokens of its own."""
        return bool(set(OTHER_TOKENIZER_NEEDS) & set(objectives.entry(self.objective).needs))

    @property
    def writes_rows(self) -> bool:
        """Whether the student writes some of the completions that it is trained on."""
        return bool(self.on_policy_fraction or self.replay_buffer_size)

    @property
    def shortens_rows(self) -> bool:
        """Whether rows lose their reasoning from step to step."""
        return self.hooks.row_shortening(self.option_values, 1) is not None

    @property
    def replaced_share(self) -> float:
        """The share of a row's learnt tokens in whose place the student's own stand."""
        return self.hooks.replaced_share(self.option_values)

    @property
    def teacher_share(self) -> float:
        """The teacher's share in the distribution that each token of a rollout is drawn from."""
        return self.hooks.teacher_share(self.constants)

    @property
    def writes_with_teacher(self) -> bool:
        """Whether the teacher has a part in what is written."""
        return self.rollout_sampling == "speculative" or self.teacher_share > 0

    @property
    def needs(self) -> tuple[str, ...]:
        """What the objective must be given under these constants."""
        # A scheduled constant counts as set: its (first, last) is truthy.
        set_constants = {**self.constants, **self.schedule}
        own_needs = objectives.entry(self.objective).needs
        return own_needs + self.hooks.extra_needs(set_constants)

    @property
    def wants_pairs(self) -> bool:
        """Whether every row must be a pair; some objectives take single completions with labels too."""
        needs = set(objectives.entry(self.objective).needs)
        return bool({"pairs", "labels"} & needs) and "mismatched" not in needs

    def notes(self) -> tuple[str, ...]:
        """What is no mistake, and yet not what the objective's paper does."""
        learns_from_samples = "logp" in self.needs and "advantages" not in self.needs
        if not learns_from_samples or self.on_policy_fraction == 1:
            return ()
        share = "all steps"
        if self.on_policy_fraction:
            share = f"a share of {1 - self.on_policy_fraction:g} of the steps"
        return (
            f"{self.objective} learns the reverse KL only from what the student itself wrote, and {share} "
            "learn given rows, on which it is another loss: --set on_policy_fraction=1",
        )

    def identity(self) -> dict[str, Any]:
        """What of it can change the trained weights; checkpoints by their content."""
        from potstill.models.local import checkpoint

        parts: dict[str, Any] = {}
        for name in (
            "objective",
            "on_policy_fraction",
            "num_generations",
            "rollout_temperature",
            "max_new_tokens",
            "loss_reduction",
        ):
            parts[name] = getattr(self, name)
        parts["constants"] = dict(self.constants)
        parts["reward"] = reward_id(self.reward) if self.reward else None
        parts["teacher_cache"] = read_manifest(self.teacher_cache) if self.teacher_cache else ""
        for name in ("teacher", "reference"):
            model = getattr(self, name)
            parts[name] = getattr(model, "id", None) or (
                checkpoint.content_id(model) if model else ""
            )
        if self.teachers:
            ids = {}
            for name, model in self.teachers.items():
                ids[name] = getattr(model, "id", None) or checkpoint.content_id(model)
            parts["teachers"] = ids

        # These are newer than the first runs, and count only where they are not their defaults.
        newer = ["rollout_sampling", "replay_buffer_size", "num_iterations"]
        newer += ["mask_truncated_completions", "eval_rows", "loss_top_k", "teacher_by"]
        newer += ["teacher_model_kind", "teacher_update_rate", "teacher_sync_steps"]
        newer += ["teacher_prompt_template", "recheck_steps", "max_resample_times"]
        newer += ["rollout_server", "rollout_sync_steps"]
        newer += ["rollout_tool", "max_tool_calls", "max_observation_tokens"]
        if (
            self.rollout_server
        ):  # where they are asked and how is no part of it, but how they are weighed
            newer.append("rollout_importance_cap")
        if self.replay_buffer_size:  # evaluations move the share of student text
            newer.append("eval_steps")
        defaults = {f.name: f.default for f in fields(self)}
        for name in newer:
            if getattr(self, name) != defaults[name]:
                parts[name] = getattr(self, name)
        if self.rollout_server:  # not where, but by what
            parts["rollout_backend"] = self.rollout_backend
            parts["rollout_importance_cap"] = self.rollout_importance_cap
        if self.difficulty_pools:
            pools = {name: list(values) for name, values in self.difficulty_pools.items()}
            parts["difficulty_pools"] = pools
        if self.schedule:
            parts["schedule"] = {name: list(ends) for name, ends in self.schedule.items()}
        return parts | self._options_identity()

    def _options_identity(self) -> dict[str, Any]:
        from potstill.models.local import checkpoint

        options = self.option_values
        initial = self.hooks.initial_projectors(options)
        # As texts: an option may be infinite, which canonical JSON has no number for.
        values = {}
        for name, value in asdict(options).items():
            if not isinstance(value, Path):
                values[name] = str(value)
        if initial:
            values["initial_projectors"] = checkpoint.file_digest(projectors_file(initial))
        return {"options": values} if values else {}


LOOP_KEYWORDS = tuple(
    f.name for f in fields(ObjectiveConfig) if f.name not in ("objective", "constants", "options")
)


class BoundKeywords(NamedTuple):
    """The keywords of a stage, each where it belongs: the objective's config, and settings of the training."""

    config: ObjectiveConfig
    settings: Mapping[str, Any]


def bind(objective: str, keywords: Mapping[str, Any]) -> BoundKeywords:
    """Bind a stage's keywords to the objective's constants and options, the loop, and settings of the training.

    A name that is both a constant and a setting is the constant. Models stand for the checkpoint that holds their
    weights.
    """
    constant_names = objectives.constants(objective)
    option_names = objectives.options(objective)
    all_names = {*constant_names, *option_names, *LOOP_KEYWORDS, *SETTINGS, *ALIASES}
    unknown = sorted(set(keywords) - all_names)
    if unknown:
        own_names = ", ".join([*constant_names, *option_names]) or "none"
        raise ConfigError(
            f"objective {objective}: nothing is called {', '.join(unknown)}",
            expected=f"its own settings ({own_names}), keywords of the loop, or training settings",
            available=(*constant_names, *option_names, *LOOP_KEYWORDS, *SETTINGS),
            wanted=unknown[0],
            fix=config_checks.describe_fix(()),
        )
    # Each keyword to whom it belongs, the objective's own names first.
    constants: dict[str, Any] = {}
    options: dict[str, Any] = {}
    loop: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in keywords.items():
        if name in constant_names:
            constants[name] = value
        elif name in option_names:
            options[name] = _as_option(objective, name, value)
        elif name not in LOOP_KEYWORDS:
            settings[ALIASES.get(name, name)] = value
        elif value is not None:
            asks_top_k = bool(keywords.get("loss_top_k"))
            loop[name] = _as_loop_value(objective, name, value, asks_top_k=asks_top_k)
    config = ObjectiveConfig(objective, constants, options=options, **loop)
    return BoundKeywords(config, settings)


def _as_loop_value(objective: str, name: str, value: Any, *, asks_top_k: bool) -> Any:
    """A keyword's value; models become the folder of their weights, but for a teacher of which scores are enough."""
    if name == "teachers":
        return {
            each: _as_loop_value(objective, "teacher", model, asks_top_k=asks_top_k)
            for each, model in value.items()
        }
    if name not in ("teacher", "reference", "teacher_cache"):
        return value
    # Of a server with weights= beside it, loss_top_k says that the server is meant.
    is_asked = asks_top_k or getattr(value, "weights", None) is None
    if name == "teacher" and is_asked and isinstance(value, TokenScored):
        return value
    scores_are_enough = name == "teacher" and "logp" in objectives.entry(objective).needs
    if scores_are_enough and _has_only_likelihoods(value):
        return value
    return weights_folder(value, name)


def _as_option(objective: str, name: str, value: Any) -> Any:
    """An option's value; where a folder is meant, a path as text or the model whose weights lie there."""
    if value is None or name not in _path_options(objective):
        return value
    return weights_folder(value, name)


def _path_options(objective: str) -> list[str]:
    types = objectives.option_types(objective)
    return [name for name in types if types[name] == Path | None]


def _has_only_likelihoods(model: Any) -> bool:
    return hasattr(model, "likelihood") and getattr(model, "weights", None) is None


def weights_folder(value: Any, role: str) -> Path:
    """The folder of a checkpoint or of cached logits: a path, or the model whose weights lie there."""
    if isinstance(value, str | Path):
        return Path(value).expanduser()
    weights = getattr(value, "weights", None)
    if weights is None:
        raise ModelError(
            f"the {role} {getattr(value, 'id', value)} has no weights to read distributions from",
            expected="a local checkpoint with the student's tokenizer",
            fix=f"--{role} transformers:PATH, or train on its texts (sft)",
        )
    return Path(weights)


def projectors_file(folder: Path) -> Path:
    """The projections that a training stored beside its student."""
    file = folder / PROJECTORS
    if not file.is_file():
        raise ConfigError(
            f"no trained projections in {folder}",
            expected=f"{PROJECTORS}: a student of the objective's first stage",
            fix="give the folder of that student",
        )
    return file


def reward_id(reward: Any) -> str:
    """The content id of a reward: its own `id`, or its code and values; refused where it closed over something."""
    own_id = getattr(reward, "id", None)
    if isinstance(own_id, str):
        return own_id
    if isinstance(reward, str | Mapping):
        weights = {reward: 1.0} if isinstance(reward, str) else dict(reward)
        return digest("reward", sorted(weights.items()))
    if not inspect.isfunction(reward) or reward.__closure__:
        raise ConfigError(
            f"the reward {getattr(reward, '__qualname__', reward)} holds more than its source shows",
            expected="a plain function, or an object with an `id` that changes whenever its values do",
            fix="give it an attribute id, as in: reward.id = 'brevity-100'",
        )
    return digest("reward", reward)


def read_manifest(folder: Path) -> str:
    """The manifest of a folder of cached teacher logits; StoreError where there is none."""
    try:
        return (folder / MANIFEST).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"no cached teacher logits in {folder}, or they were never finished",
            expected=f"a folder with {MANIFEST}",
            fix=f"potstill cache-teacher --rows ROWS --teacher SPEC --out {folder}",
        ) from None
