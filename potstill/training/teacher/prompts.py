"""What a teacher reads in the place of the student's prompt: the row's own, or a template of the config.

The completion's tokens stay the same ids behind either prompt. So the two prompts must end in the same way: a chat
template that opens a thought in one of them and not in the other would have the teacher go on from somewhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

from potstill.errors import InputError, StageError
from potstill.records import Problem, Prompt, Trace, Verdict
from potstill.template import fill_template, template_names
from potstill.training.dataset.build import max_row_length
from potstill.training.dataset.chat_template import ChatTemplate
from potstill.training.dataset.teacher_view import with_teacher_prompt
from potstill.training.dataset.tokenize import render_learner_prompt
from potstill.training.dataset.training_dataset import TrainingDataset
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.settings import TrainingSettings

TOO_LONG = "longer than the teacher's context behind its own prompt"
FORGED = "the teacher's prompt holds a control token"
NO_PROMPT = "the generation prompt closes <think> before the trace's reasoning"


class Feedback(NamedTuple):
    """What is known of a rollout once it is judged.

    Args:
        attempt: its text.
        verdict: of its problem's verifier.
        right_attempt: another completion of the same prompt that is right; "" where none is.
    """

    attempt: str
    verdict: Verdict
    right_attempt: str = ""


def plain_text(prompt: Prompt) -> str:
    """A prompt as one text: of messages their contents, a blank line between two."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(message.content for message in prompt)


def _gold_field(name: str) -> Callable[[Problem], str]:
    def read(problem: Problem) -> str:
        value: str | None = getattr(problem, name)
        if not value:
            raise InputError(
                f"teacher_prompt_template shows {{{name}}}, but problem {problem.id!r} has none",
                fix=f"problems with a {name}, or a template without {{{name}}}",
            )
        return value

    return read


PROBLEM_FIELDS: Mapping[str, Callable[[Problem], str]] = {
    "question": lambda problem: problem.question,
    "answer": _gold_field("answer"),
    "solution": _gold_field("solution"),
    "choices": lambda problem: problem.lettered_choices,
    "table": lambda problem: problem.table or "",
}
ROW_FIELDS: Mapping[str, Callable[[Trace], str]] = {
    "prompt": lambda trace: plain_text(trace.prompt),
    "teacher_prompt": lambda trace: plain_text(trace.teacher_prompt or trace.prompt),
}
FEEDBACK_FIELDS: Mapping[str, Callable[[Feedback], str]] = {
    "attempt": lambda feedback: feedback.attempt,
    "verdict": lambda feedback: feedback.verdict.status,
    "feedback": lambda feedback: feedback.verdict.reason,
    "right_attempt": lambda feedback: feedback.right_attempt,
}


def fill_teacher_prompt(template: str, trace: Trace, feedback: Feedback | None = None) -> str:
    """The template filled from a row and, where it is asked for, from what is known of a rollout."""
    values = {}
    for name in template_names(template):
        if name in PROBLEM_FIELDS:
            values[name] = PROBLEM_FIELDS[name](trace.problem)
        elif name in ROW_FIELDS:
            values[name] = ROW_FIELDS[name](trace)
        else:
            assert feedback is not None
            values[name] = FEEDBACK_FIELDS[name](feedback)
    return fill_template(template, values)


@final
class TeacherPrompts:
    """The teacher's prompts of a training's rows, as tokens of the student's tokenizer.

    Args:
        traces: the stage's rows.
        chat: the student's chat template, which is the teacher's too.
        template: of the config; "" leaves it to the rows.
        context: tokens that the teacher can read.
    """

    def __init__(
        self, traces: Sequence[Trace], chat: ChatTemplate, template: str, context: int
    ) -> None:
        self._traces, self._chat, self._template = traces, chat, template
        self.context = context

    def add_to(
        self, dataset: TrainingDataset, *, prompts_alone: bool, max_dropped_share: float
    ) -> TrainingDataset:
        """The dataset with each row's teacher prompt; rows that the teacher can't read behind it are left out.

        Args:
            prompts_alone: whether the student writes all completions, so that nothing stands behind the prompts yet.
            max_dropped_share: share of the items that may be left out.
        """
        prompts: list[list[int]] = []
        skipped: dict[str, int] = {}
        items = []
        for number, item in enumerate(dataset):
            reason = ""
            for row in item:
                ids, reason_of_row = self._prompt_of(self._traces[row.trace_index], prompts_alone)
                completion_length = max(1, len(row) - row.prompt_length)
                if not reason_of_row and len(ids) + completion_length > self.context:
                    reason_of_row = TOO_LONG
                reason = reason or reason_of_row
                prompts.append(ids)
            if reason:
                skipped[reason] = skipped.get(reason, 0) + 1
            else:
                items.append(number)
        left_out = sum(skipped.values())
        if left_out > max_dropped_share * len(dataset) or not items:
            raise StageError(
                f"{left_out} of {len(dataset)} rows can't be shown to the teacher: {skipped}",
                expected=f"at most {max_dropped_share:.1%} of them (max_dropped_share={max_dropped_share:g})",
                fix="shorter teacher prompts, or leave these rows out with a larger max_dropped_share",
            )
        columns: dict[str, list[Any]] = {}
        for row, ids in zip(dataset.item_rows, prompts, strict=True):
            for name, values in with_teacher_prompt(row.without_columns(), ids).columns.items():
                columns.setdefault(name, []).append(values)
        for name, by_row in columns.items():
            dataset = dataset.with_column(name, by_row)
        return dataset.select(items).with_skipped(skipped)

    def _prompt_of(self, trace: Trace, prompts_alone: bool) -> tuple[list[int], str]:
        """The teacher's prompt before a rollout is known, as tokens; and why there is none."""
        prompt: Prompt = trace.teacher_prompt or trace.prompt
        if self._template:
            prompt = fill_teacher_prompt(self._template, trace)
        if self._chat.control_tokens.search(plain_text(prompt)):
            return [], FORGED
        shown = replace(trace, text="") if prompts_alone else trace
        rendered = render_learner_prompt(replace(shown, prompt=prompt), self._chat)
        of_student = render_learner_prompt(shown, self._chat)
        if rendered is None or of_student is None:
            return [], NO_PROMPT
        self._check_ending(trace.prompt, of_student, prompt, rendered)
        return self._encode(rendered), ""

    def after_rollout(self, trace: Trace, feedback: Feedback) -> list[int]:
        """The prompt filled from what is known of a rollout; empty where it holds a control token."""
        prompt = fill_teacher_prompt(self._template, trace, feedback)
        if self._chat.control_tokens.search(prompt):
            return []
        rendered = self._chat.render_prompt(prompt)
        self._check_ending(trace.prompt, self._chat.render_prompt(trace.prompt), prompt, rendered)
        return self._encode(rendered)

    def _encode(self, rendered: str) -> list[int]:
        return list(self._chat.tokenizer.encode(rendered, add_special_tokens=False))

    def _check_ending(self, prompt: Prompt, of_student: str, own: Prompt, rendered: str) -> None:
        """Refuse prompts behind which the answer begins in another way."""
        student_ending = ending_behind(of_student, prompt)
        teacher_ending = ending_behind(rendered, own)
        # A short prompt may also stand within its ending, of which a part is compared then.
        shorter, longer = sorted((student_ending, teacher_ending), key=len)
        if not longer.endswith(shorter):
            raise StageError(
                "the chat template begins the answer in another way behind the teacher's prompt: "
                f"{teacher_ending[-80:]!r}, and {student_ending[-80:]!r} behind the student's",
                expected="the same generation prompt, so that the completion is the same tokens to both",
                fix="a teacher's prompt whose last turn is a user's, as the student's is",
            )


def ending_behind(rendered: str, prompt: Prompt) -> str:
    """What the chat template writes behind a prompt's last turn; the last line where it changes that turn's blanks."""
    last_turn = prompt if isinstance(prompt, str) else prompt[-1].content
    _, found, ending = rendered.rpartition(last_turn.strip())
    if found and last_turn.strip():
        return ending
    return rendered.splitlines()[-1] if rendered else ""


def teacher_traces(traces: Sequence[Trace], template: str) -> list[Trace]:
    """The rows with their teacher's prompt in the place of the student's, for a teacher that is asked by text."""
    shown = []
    for trace in traces:
        prompt: Prompt = trace.teacher_prompt or trace.prompt
        if template:
            prompt = fill_teacher_prompt(template, trace)
        shown.append(replace(trace, prompt=prompt))
    return shown


def make_teacher_prompts(
    traces: Sequence[Trace],
    chat: ChatTemplate,
    start: Path,
    settings: TrainingSettings,
    config: ObjectiveConfig,
) -> TeacherPrompts | None:
    """The teacher's prompts of a training; None where it reads the student's.

    Args:
        start: the student's checkpoint, whose context is the teacher's where that is no other checkpoint.
    """
    check_rows(traces, config)
    if not has_teacher_prompts(traces, config.teacher_prompt_template):
        return None
    teacher = start
    if isinstance(config.teacher, str | Path):
        teacher = Path(config.teacher)
    context = max_row_length(teacher, replace(settings, max_length=0))
    return TeacherPrompts(traces, chat, config.teacher_prompt_template, context)


def check_rows(traces: Sequence[Trace], config: ObjectiveConfig) -> None:
    """Refuse rows with a teacher's prompt that nobody would read, and a live teacher without one.

    Raises:
        StageError: a training would take no notice of the prompts, or learn nothing.
    """
    has_prompts = has_teacher_prompts(traces, config.teacher_prompt_template)
    if config.teacher_model_kind == "live" and not has_prompts:
        raise StageError(
            "the student as it is would teach itself what it knows: both read the same prompts",
            expected="a teacher's prompt that says more than the student's",
            fix="teacher_prompt_template=, rows with a teacher_prompt, or teacher_model_kind=base",
        )
    if not has_prompts:
        return
    reason = ""
    if not {"distribution", "logp"} & set(config.needs):
        reason = f"{config.objective} asks no teacher"
    elif config.teacher_cache:
        reason = "cached teacher logits were made behind the student's prompts"
    elif config.crosses_tokenizers or "layers" in config.needs:
        reason = f"{config.objective} reads another text, or inner layers"
    elif config.writes_with_teacher:
        reason = "a teacher that writes with the student reads the student's prompt"
    elif config.rewards_by_teacher:
        reason = "the reward `teacher` reads the student's prompt"
    if reason:
        raise StageError(
            f"the rows have a prompt for the teacher alone, and {reason}",
            expected="an objective that compares with a teacher's distribution, or its log-probabilities",
            fix="an objective with teacher= or teacher_model_kind=; "
            "or rows without teacher_prompt (--map teacher_prompt=)",
        )


def has_teacher_prompts(traces: Sequence[Trace], template: str) -> bool:
    """Whether a teacher reads other prompts than the student."""
    return bool(template) or any(trace.teacher_prompt for trace in traces)
