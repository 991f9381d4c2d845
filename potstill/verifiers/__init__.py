"""Trace text to verdict: right, wrong, unparsed or unjudged, with a reason. One module a kind, listed in `MODULES`.

Importing this loads no verifier; each is imported when its kind is first judged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Protocol, get_args, runtime_checkable

from potstill import plugins
from potstill.errors import ConfigError
from potstill.records import Problem, Span, Status, Verdict
from potstill.verifiers.placement import current_place
from potstill.verifiers.thoughts import is_only_thought
from potstill.verifiers.thoughts import reading_thoughts as reading_thoughts
from potstill.verifiers.thoughts import reads_thoughts as reads_thoughts

MODULES = MappingProxyType(
    {
        "math": "potstill.verifiers.math.equality",
        "number": "potstill.verifiers.number",
        "choice": "potstill.verifiers.choice",
        "exact": "potstill.verifiers.exact",
        "regex": "potstill.verifiers.regex",
        "format": "potstill.verifiers.format",
        "table": "potstill.verifiers.sql.verifier",
        "code": "potstill.verifiers.code.verifier",
        "judge": "potstill.verifiers.rubric",
        "gym": "potstill.verifiers.gym",
        "story": "potstill.verifiers.story",
        "walk": "potstill.verifiers.walk",
    }
)
KINDS = tuple(MODULES)
MOST_GOLD_WORDS = 8  # a mathematical gold answer with as many words is a sentence
MOST_WORDS_BEFORE_STOP = 4  # and so is one with as many that ends in a full stop
NO_REPLY = "a thought, and no answer after it"
_READING_THOUGHTS = "+thoughts"  # behind a version: other texts have answers
# Kinds whose own module judges steps.
_STEP_KINDS = ("story", "walk")
# Kinds that judge a small arithmetic question's answer; its steps are judged by `equations`.
_EQUATION_KINDS = ("exact", "gym", "math", "number")


class Verifier(Protocol):
    """What each module of the table offers."""

    VERSION: str

    def judge(self, problem: Problem, text: str) -> Verdict:
        """Return the verdict on a text that answers the problem."""
        ...

    def gold_text(self, problem: Problem) -> str:
        """Return a text that gives the gold answer, and so must be judged right."""
        ...


@runtime_checkable
class AnswerReader(Protocol):
    """What a module also offers, so that answers are read and compared without a gold answer.

    The verifier of an installed package may leave it out: then the answer of its verdict is read, and compared as text.
    """

    def read(self, problem: Problem, text: str) -> str | None:
        """Return the final answer of a text, or None where none can be read; the gold answer is not looked at."""
        ...

    def equal(self, problem: Problem, first: str, second: str) -> bool:
        """Whether two answers, as `read` or a verdict gives them, are the same answer to the problem."""
        ...


class StepVerifier(Protocol):
    """What judges the steps of a text."""

    VERSION: str

    def steps(self, problem: Problem, text: str) -> tuple[Span, ...]:
        """Return a span of kind "step" for each claim of a text; score 1 if right, else 0."""
        ...


@runtime_checkable
class BatchVerifier(Protocol):
    """What a module offers beside it where judging computes much: many items at once, in worker processes."""

    def judge_all(self, items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """Return a verdict for each item, in order."""
        ...


@runtime_checkable
class BatchEquality(Protocol):
    """The same for `equal`."""

    def equal_all(self, items: Sequence[tuple[Problem, str, str]]) -> list[bool]:
        """Return for each item whether its two answers are the same, in order."""
        ...


def judge(items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Judge texts, each by the verifier of its problem's kind.

    Args:
        items: a problem and a text, each; kinds may be mixed.

    Returns:
        A verdict for each item, in order.

    Raises:
        ConfigError: a kind is unknown, or what its verifier needs is not installed.
    """
    # All items of a kind at once; then in their own order again.
    verdicts: dict[int, Verdict] = {}
    suffix = _READING_THOUGHTS if reads_thoughts() else ""
    for kind in dict.fromkeys(problem.kind for problem, _ in items):
        module = _import_verifier(kind)
        indices = [index for index, (problem, _) in enumerate(items) if problem.kind == kind]
        place = current_place() if kind in MODULES else None
        if isinstance(module, BatchVerifier) and place is not None:
            judged = place.judge(kind, [items[index] for index in indices])
        elif isinstance(module, BatchVerifier):
            judged = module.judge_all([items[index] for index in indices])
        else:
            judged = [module.judge(*items[index]) for index in indices]
        if kind not in MODULES:
            _check_plugin_verdicts(kind, judged)
        for index, verdict in zip(indices, judged, strict=True):
            if _is_without_answer(module, items[index][1]) and verdict.status in ("right", "wrong"):
                verdict = Verdict("unparsed", None, NO_REPLY, verdict.verifier)
            verdicts[index] = verdict._replace(verifier=verdict.verifier + suffix)
    return [verdicts[index] for index in range(len(items))]


def read(items: Sequence[tuple[Problem, str]]) -> list[str | None]:
    """Read the final answer of each text, without looking at the gold answer.

    Args:
        items: a problem and a text, each; kinds may be mixed. The problem says which verifier reads, and the options.

    Returns:
        For each item the answer as its verdict would hold it, or None where none can be read.
    """
    answers: list[str | None] = []
    for problem, text in items:
        module = _import_verifier(problem.kind)
        if _is_without_answer(module, text):
            answers.append(None)
        elif isinstance(module, AnswerReader):
            answers.append(module.read(problem, text))
        else:
            answers.append(module.judge(problem, text).answer)
    return answers


def equal(items: Sequence[tuple[Problem, str, str]]) -> list[bool]:
    """Compare pairs of answers, each by the verifier of its problem's kind.

    Args:
        items: a problem and two answers to it, each, as `read` or a verdict gives them; kinds may be mixed.

    Returns:
        For each item whether the two are one answer, in order.
    """
    results: dict[int, bool] = {}
    for kind in dict.fromkeys(problem.kind for problem, _, _ in items):
        module = _import_verifier(kind)
        indices = [index for index, item in enumerate(items) if item[0].kind == kind]
        pairs = [items[index] for index in indices]
        place = current_place() if kind in MODULES else None
        if isinstance(module, BatchEquality) and place is not None:
            compared = place.equal(kind, pairs)
        elif isinstance(module, BatchEquality):
            compared = module.equal_all(pairs)
        elif isinstance(module, AnswerReader):
            compared = [module.equal(*pair) for pair in pairs]
        else:
            compared = [first == second for _, first, second in pairs]
        results.update(zip(indices, compared, strict=True))
    return [results[index] for index in range(len(items))]


def version(kind: str) -> str:
    """Return the verifier of a kind with its version, such as "math@1"; verdicts are stored under it."""
    suffix = _READING_THOUGHTS if reads_thoughts() else ""
    return _import_verifier(kind).VERSION + suffix


def steps(items: Sequence[tuple[Problem, str]]) -> list[tuple[Span, ...] | None]:
    """Judge the steps of texts.

    Returns:
        For each item, spans of kind "step" with score 1.0 or 0.0; None where the problem has no step verifier.
    """
    step_spans: list[tuple[Span, ...] | None] = []
    for problem, text in items:
        verifier = _step_verifier(problem)
        step_spans.append(None if verifier is None else verifier.steps(problem, text))
    return step_spans


def has_steps(problem: Problem) -> bool:
    """Whether a problem's steps can be judged: a story, a walk, or a small arithmetic question of reasoning-gym."""
    return _step_verifier(problem) is not None


def steps_version(problem: Problem) -> str:
    """The step verifier of a problem with its version, where it is not the one that judges the answer; else ""."""
    verifier = _step_verifier(problem)
    return "" if verifier is None or problem.kind in _STEP_KINDS else verifier.VERSION


def check_gold(problems: Sequence[Problem]) -> list[tuple[Problem, Verdict]]:
    """Return the problems whose own gold answer is not judged right, each with the verdict."""
    return [
        (problem, verdict) for problem, verdict in judge_gold(problems) if verdict.status != "right"
    ]


def judge_gold(problems: Sequence[Problem]) -> list[tuple[Problem, Verdict]]:
    """Return each problem that has a gold answer, with the verdict of its own verifier on that answer.

    A problem without a gold answer is not among them. Nor is one that a model judges: its answer is a reference, and
    showing it to the judge would cost a call.
    """
    with_gold = [problem for problem in problems if has_gold(problem)]
    items: list[tuple[Problem, str]] = []
    for problem in with_gold:
        items.append((problem, _import_verifier(problem.kind).gold_text(problem)))
    judged: list[tuple[Problem, Verdict]] = []
    for problem, verdict in zip(with_gold, judge(items), strict=True):
        if problem.kind == "math" and _is_sentence(problem.answer or ""):
            # As a string it equals itself, and says nothing about whether an answer could ever equal it.
            reason = "a sentence, and no final answer in it"
            verdict = Verdict("unjudged", None, reason, verdict.verifier)
        judged.append((problem, verdict))
    return judged


def _is_sentence(gold: str) -> bool:
    r"""Whether a gold answer is prose alone: many words outside of `\text{}`, and no formula among them.

    Fewer words are enough where a full stop ends them.
    """
    if "$" in gold or r"\(" in gold:
        return False
    prose = re.sub(r"\\text\s?\{[^{}]*\}|\\[A-Za-z]+", " ", gold)
    has_stop = gold.rstrip().endswith((".", "!"))
    enough = MOST_WORDS_BEFORE_STOP if has_stop else MOST_GOLD_WORDS
    return len(re.findall(r"[A-Za-z]{2,}", prose)) >= enough


def failed_gold(failing: int, problems: Sequence[Problem], spec: str) -> dict[str, str]:
    """Describe gold answers that fail: found, expected and fix of an error.

    Args:
        failing: how many there are.
        problems: all that were checked.
        spec: where they come from, as the user named it.
    """
    kind = problems[0].kind
    if kind == "code":
        return {
            "found": f"{failing} of {len(problems)} reference solutions in {spec} fail their own tests",
            "expected": "solutions that pass the tests of their rows; each reason says which test failed, and how",
            "fix": "correct the solution or the test in that row, or read no solutions with --map solution=",
        }
    return {
        "found": f"{failing} of {len(problems)} gold answers in {spec} fail their own verifier",
        "expected": f"gold answers that the {kind!r} verifier calls right",
        "fix": "choose the verifier with --kind, or the answer column with --map answer=COLUMN",
    }


def has_gold(problem: Problem) -> bool:
    """Whether a problem has what `check_gold` checks; a program's is its solution."""
    gold = problem.solution if problem.kind == "code" else problem.answer
    return gold is not None and problem.kind != "judge"


def _step_verifier(problem: Problem) -> StepVerifier | None:
    """What judges the steps of a problem's texts; None where nothing does."""
    if problem.kind in _STEP_KINDS:
        module: StepVerifier = import_module(MODULES[problem.kind])
        return module
    if problem.kind in _EQUATION_KINDS and problem.source.startswith("gym:"):
        from potstill.verifiers.equations import follow

        return follow if follow.has_steps(problem) else None
    return None


def _import_verifier(kind: str) -> Verifier:
    verifier: Verifier
    if kind in MODULES:
        verifier = import_module(MODULES[kind])
    elif kind in plugins.plugin_names("verifiers"):
        verifier = plugins.load_plugin("verifiers", kind)
        _check_plugin(kind, verifier)
    else:
        raise ConfigError(
            f"there is no verifier of kind {kind!r}",
            available=(*KINDS, *plugins.plugin_names("verifiers")),
            wanted=kind,
            fix="give the problems one of these kinds, for example --kind number",
        )
    return verifier


def _is_without_answer(module: Verifier, text: str) -> bool:
    """Whether a text is only a thought, whose answer does not count; a verifier of whole texts says so itself."""
    if reads_thoughts() or getattr(module, "JUDGES_WHOLE_TEXT", False):
        return False
    return is_only_thought(text)


def _check_plugin_verdicts(kind: str, verdicts: Sequence[object]) -> None:
    """Refuse what is no verdict, or has a status that nothing counts, before it is stored."""
    for verdict in verdicts:
        if not isinstance(verdict, Verdict) or verdict.status not in get_args(Status):
            raise ConfigError(
                f"the verifier {kind!r} of an installed package judged {verdict!r:.80}",
                expected="potstill.records.Verdict(status, answer, reason, VERSION)",
                available=get_args(Status),
            )


def _check_plugin(kind: str, verifier: object) -> None:
    """Refuse a plugin that lacks a part of a verifier, before anything is judged."""
    missing = [part for part in ("VERSION", "judge", "gold_text") if not hasattr(verifier, part)]
    if missing:
        raise ConfigError(
            f"the verifier {kind!r} of an installed package has no {', '.join(missing)}",
            expected="VERSION, judge(problem, text) and gold_text(problem), as docs/verifiers.md says",
        )
