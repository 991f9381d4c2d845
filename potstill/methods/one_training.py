"""The function of a line: rows, one stage, and a signature that says what the line says."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal

from potstill.errors import StageError
from potstill.methods.gold_solutions import has_solution, show_solution
from potstill.methods.lines import PAPER_ARM, Line, TeacherUse, Texts
from potstill.models.model import Model, Scored, Trainable
from potstill.models.token_scoring import TokenScored
from potstill.records import Stage, Trace
from potstill.traces import edit, keep, right_test, sample, verify

GIVEN_TEXTS = Literal["teacher", "solutions"]
# The values of lines that learn given texts, with their types and defaults (ours: no paper's task is everybody's).
TEXT_VALUES: Mapping[str, tuple[Any, Any]] = {
    "texts": (GIVEN_TEXTS, "teacher"),
    "n": (int, 1),
    "steps": (bool | None, None),
    "temperature": (float, 0.7),
    "max_new_tokens": (int, 2048),
}
# What the teacher's role asks of its model, where it writes too.
TEACHER_ROLES: Mapping[TeacherUse, Any] = {
    "": Model,
    "distribution": Trainable | TokenScored,
    "likelihood": Annotated[Model, Scored],
}


def make_method(line: Line, module: str) -> Callable[..., Generator[Stage, Trainable, None]]:
    """The line as a method: a generator function with the signature and the docstring that a file's would have.

    Args:
        line: of a family's table.
        module: the table's dotted name.
    """
    signature = make_signature(line)

    def method(problems: list[Trace], **arguments: Any) -> Generator[Stage, Trainable, None]:
        bound = signature.bind(problems, **arguments)
        bound.apply_defaults()
        given = dict(bound.arguments)
        yield from train_once(line, given.pop("problems"), given)

    method.__name__ = method.__qualname__ = line.name
    method.__module__ = module
    method.__doc__ = line.docstring
    method.__signature__ = signature  # type: ignore[attr-defined]
    method.__annotations__ = {
        parameter.name: parameter.annotation for parameter in signature.parameters.values()
    }
    return method


def make_signature(line: Line) -> Signature:
    """Problems and roles, then after `*` the values, each with the line's default."""
    parameters = [Parameter("problems", Parameter.POSITIONAL_OR_KEYWORD, annotation=list[Trace])]
    for role in line.roles:
        annotation = TEACHER_ROLES[line.teacher] if role == "teacher" else Trainable
        parameters.append(Parameter(role, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation))

    values: dict[str, tuple[Any, Any]] = {}
    if line.arms:
        arms = (PAPER_ARM, *(arm.name for arm in line.arms))
        values["arm"] = (Literal[arms], PAPER_ARM)
    if line.learns_given_texts:
        values |= TEXT_VALUES
        values["texts"] = (GIVEN_TEXTS, line.texts)
    for constant in line.constants:
        values[constant.name] = (annotation_of(constant.value), constant.value)
    for name, (annotation, default) in values.items():
        parameters.append(
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    return Signature(parameters)


def annotation_of(value: Any) -> Any:
    """The type of a constant's default; a mapping's values are numbers."""
    return Mapping[str, float] if isinstance(value, Mapping) else type(value)


def train_once(
    line: Line, problems: list[Trace], given: dict[str, Any]
) -> Generator[Stage, Trainable, None]:
    """The stage of a line.

    Args:
        line: what is trained.
        problems: blank traces.
        given: models by role, and the values.
    """
    teacher: Any = given.pop("teacher", None)
    student: Trainable = given.pop("student")
    arm = line.arm(given.pop("arm", PAPER_ARM))
    texts = {name: given.pop(name) for name in TEXT_VALUES if name in given}

    constants = dict(arm.constants) if arm.objective else {**given, **arm.constants}
    if line.teacher and arm.asks_teacher:
        constants["teacher"] = teacher
    if "max_new_tokens" in texts and "on_policy_fraction" in constants:
        constants["max_new_tokens"] = texts["max_new_tokens"]

    source: Texts = arm.texts or line.texts
    rows: Sequence[Trace] = problems
    if source != "student":
        rows = given_texts(line.name, problems, teacher, **texts)
    yield Stage(student, rows, arm.objective or line.objective, **constants)


def given_texts(
    method: str,
    problems: list[Trace],
    teacher: Model,
    *,
    texts: str,
    n: int = 1,
    steps: bool | None = None,
    temperature: float = 0.7,
    max_new_tokens: int = 2048,
) -> Sequence[Trace]:
    """The texts that are learnt: the teacher's right ones, or the problems' own solutions.

    Args:
        method: the name that an error begins with.
        problems: blank traces.
        teacher: writes, where texts are to be the teacher's.
        texts: "teacher" or "solutions".
        n: texts sampled from the teacher a problem.
        steps: as `right_test` takes it.
        temperature: of the teacher's texts.
        max_new_tokens: the longest of them.

    Raises:
        StageError: solutions are wanted, and no problem has one.
    """
    if texts == "teacher":
        chains = sample(
            teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens
        )
        return keep(right_test(problems, steps), verify(chains))
    solutions = edit(show_solution, keep(has_solution, problems))
    if not solutions:
        raise StageError(
            f"{method} was to learn the problems' own solutions, and none of {len(problems)} problems has one",
            expected="problems with a solution",
            fix="--map solution=COLUMN, or --set texts=teacher",
        )
    return solutions
