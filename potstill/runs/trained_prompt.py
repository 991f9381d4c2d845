"""How a student was asked while it was trained, so that it is measured by the same prompt, or its user is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from potstill.data.learner_prompt import QUESTION, is_template, prompt_template
from potstill.models.model import Model
from potstill.records import Problem, Trace
from potstill.runs.sources import checkpoint_of, default_prompt
from potstill.training.settings import FIT_FILE


class TrainedPrompt(NamedTuple):
    """What `fit.json` says of the prompts of a training: their templates, and what the chat template was told."""

    templates: tuple[str, ...]
    chat: str = ""


class AskedPrompt(NamedTuple):
    """The template to ask problems with ("" is the kinds' own), and a sentence that people should read."""

    template: str
    note: str = ""


def read_trained_prompt(spec: str) -> TrainedPrompt | None:
    """How the student of a spec was asked in its training; None where it is no student, or nobody wrote it down."""
    folder = checkpoint_of(spec)
    if folder is None or not (folder / FIT_FILE).is_file():
        return None
    try:
        report = json.loads((folder / FIT_FILE).read_text("utf-8"))
        templates = tuple(str(template) for template in report.get("prompts", ()))
        chat = str(report.get("chat", ""))
    except (OSError, ValueError, AttributeError, TypeError):
        return None  # a file of this name that no training wrote
    return TrainedPrompt(templates, chat) if templates else None


def match_spec(spec: str, trained: TrainedPrompt | None) -> str:
    """The spec with the chat mode of the training, where it names none of its own."""
    has_mode = trained is not None and trained.chat not in ("", "auto")
    if trained is None or not has_mode or "chat=" in spec:
        return spec
    return f"{spec}{'&' if '?' in spec else '?'}chat={trained.chat}"


def choose_prompt(
    trained: TrainedPrompt | None, given: str, problems: Sequence[Problem]
) -> AskedPrompt:
    """The prompt to measure a student with: the one that was given, else the one that it was trained with.

    Args:
        trained: how the student was asked in its training.
        given: the template that the user gave; "" where none.
        problems: to measure it on.
    """
    if trained is None:
        return AskedPrompt(given)
    defaults = {default_prompt(problem.kind) for problem in problems}
    asked_templates = {given} if given else defaults
    if asked_templates <= set(trained.templates):
        return AskedPrompt(given)
    [first, *others] = trained.templates
    if given:
        return AskedPrompt(
            given, f"asked with another prompt than it was trained with, which was {first!r}"
        )
    if others or not is_template(first):
        return AskedPrompt(
            "",
            f"asked with the default prompt, which is none of those that it was trained with, such as {first!r}; "
            "--prompt asks as it was trained",
        )
    if asks_in_itself(first, problems):
        # Rows and problems of one dataset: what all rows had in common stands in these questions too.
        return AskedPrompt(QUESTION, "asked with the bare questions, as it was trained")
    return AskedPrompt(first, f"asked with the prompt that it was trained with: {first!r}")


def other_prompt_note(model: Model, problems: Sequence[Trace]) -> str:
    """Says where a student is asked problems in other words than those it was trained with; "" where it is not."""
    weights = getattr(model, "weights", None)
    trained = read_trained_prompt(f"transformers:{weights}") if weights is not None else None
    if trained is None:
        return ""
    asked_templates = {prompt_template(trace.prompt, trace.problem) for trace in problems}
    others = sorted(asked_templates - set(trained.templates))
    if not others:
        return ""
    return (
        f"asked with the prompt {others[0]!r}, and the student was trained with {trained.templates[0]!r}; "
        "load_problems(…, prompt=…) asks as it was trained"
    )


def asks_in_itself(template: str, problems: Sequence[Problem]) -> bool:
    """Whether every question holds already what the template would put around it."""
    before, _, after = template.replace("{{", "{").replace("}}", "}").partition(QUESTION)
    if not before.strip() and not after.strip():
        return False
    return all(
        problem.question.startswith(before) and problem.question.endswith(after)
        for problem in problems
    )
