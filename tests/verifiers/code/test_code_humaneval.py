"""HumanEval in the sandbox: its solutions pass, and 500 one-token mutants get the verdict of plain execution."""

from __future__ import annotations

import io
import keyword
import os
import random
import sys
import tokenize
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import child
import pytest

from potstill import verifiers
from potstill.data import problems as sources
from potstill.verifiers.code import sandbox
from potstill.verifiers.code import verifier as code
from potstill.verifiers.code.sandbox import Limits

MUTANTS, SEED = 500, 20_260_101
LIMITS = Limits(seconds=3)
SWAPS = {
    **{
        "+": "-",
        "-": "+",
        "*": "+",
        "/": "//",
        "//": "/",
        "%": "//",
        "**": "*",
        "+=": "-=",
        "-=": "+=",
        "*=": "+=",
    },
    **{
        "<": "<=",
        "<=": "<",
        ">": ">=",
        ">=": ">",
        "==": "!=",
        "!=": "==",
        "and": "or",
        "or": "and",
        "in": "not in",
    },
    **{
        "True": "False",
        "False": "True",
        "not": "",
        "break": "pass",
        "continue": "pass",
        "is": "is not",
        "&": "|",
    },
    **{
        "min": "max",
        "max": "min",
        "any": "all",
        "all": "any",
        "return": "yield",
        "if": "elif",
        ":": "",
    },
}
PLAIN = """
import resource, sys
seconds, memory = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
source = sys.stdin.read()
sys.stdin = open("/dev/null")
sys.stdout, out = open("/dev/null", "w"), sys.stdout
try:
    compiled = compile(source, "<plain>", "exec")
except SyntaxError:
    outcome = "syntax"
else:
    try:
        exec(compiled, {"__name__": "answer"})
        outcome = "pass"
    except AssertionError:
        outcome = "wrong"
    except MemoryError:
        outcome = "memory"
    except BaseException:
        outcome = "runtime"
out.write(outcome)
"""


@pytest.fixture(scope="module")
def humaneval(shared_data):
    path = shared_data / "humaneval" / "HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip("no HumanEval here")
    return sources.load(str(path), kind="code")


@pytest.fixture(params=sandbox.KINDS)
def kind(request):
    why = sandbox.sandbox_obstacle(request.param)
    if why:
        pytest.skip(f"{request.param} does not work here: {why}")
    return request.param


def parts(problem) -> tuple[str, str, str, str]:
    """Prefix, solution, tests, entry."""
    [unit] = code.read_tests(problem.tests, LIMITS)
    return unit.prefix, problem.solution.removeprefix(unit.prefix), unit.source, unit.entry


def _is_name(token) -> bool:
    return (
        token.type == tokenize.NAME
        and not keyword.iskeyword(token.string)
        and token.string not in SWAPS
    )


def mutants(problem) -> dict[str, list[str]]:
    """All one-token mutants of a solution's body: words, operators, constants, names."""
    prefix, body, _, _ = parts(problem)
    lines, first = (prefix + body).splitlines(keepends=True), prefix.count("\n") + 1
    tokens = [
        t
        for t in tokenize.generate_tokens(io.StringIO("".join(lines)).readline)
        if t.start[0] >= first
    ]
    names = sorted({t.string for t in tokens if _is_name(t)})
    found: dict[str, list[str]] = {"word": [], "operator": [], "constant": [], "name": []}
    for token in tokens:
        others = [SWAPS[token.string]] if token.string in SWAPS else []
        if token.type == tokenize.NUMBER:
            others += [f"({token.string} + 1)", f"({token.string} - 1)", "0"]
        if token.type == tokenize.STRING:
            others += ["''", "'x'"]
        if _is_name(token):
            others += [name for name in names if name != token.string]
        sort = {tokenize.OP: "operator", tokenize.NAME: "name" if _is_name(token) else "word"}.get(
            token.type, "constant"
        )
        (row, begin), (_, end) = token.start, token.end
        for other in others if token.start[0] == token.end[0] else []:
            changed = lines.copy()
            changed[row - 1] = changed[row - 1][:begin] + other + changed[row - 1][end:]
            found[sort].append("".join(changed).removeprefix(prefix))
    return found


def chosen(problems) -> list[tuple[object, str]]:
    """MUTANTS of them: a problem at random, a sort of token, then one of its mutants, none twice."""
    draw, made, taken = random.Random(SEED), {p.id: mutants(p) for p in problems}, {}
    while len(taken) < MUTANTS:
        problem = draw.choice(problems)
        bodies = made[problem.id][draw.choice(["operator", "constant", "name", "word"])]
        if bodies:
            body = draw.choice(bodies)
            taken[problem.id, body] = (problem, body)
    return list(taken.values())


def plain(item) -> str:
    """The class by plain execution, not in a sandbox: mutants of trusted code."""
    problem, body = item
    prefix, _, tests, entry = parts(problem)
    done = child.run(
        [sys.executable, "-c", PLAIN, str(LIMITS.seconds), str(LIMITS.memory)],
        input=f"{prefix}{body}\n{tests}\ncheck({entry})\n",
        check=False,
        env={"PYTHONHASHSEED": "0", "PATH": os.environ["PATH"]},
    )
    return done.stdout if done.returncode == 0 else "time" if done.returncode == -24 else "runtime"


@pytest.mark.slow
def test_a_few_solutions_pass_and_a_few_mutants_fail(humaneval, kind):
    few = humaneval[
        30:36
    ]  # helpers of the prompt and calls of the solution's own names are among them
    verdicts = code.judge_all([(p, code.gold_text(p)) for p in few], kind=kind)
    assert [v.reason.split(":")[0] for v in verdicts] == ["pass"] * len(few)
    changed = [(p, mutants(p)["word"][0]) for p in few]  # mostly "yield" in place of "return"
    verdicts = code.judge_all(
        [(p, f"```python\n{body}```") for p, body in changed], kind=kind, limits=LIMITS
    )
    found = [v.reason.split(":")[0] for v in verdicts]
    assert found == [plain(item) for item in changed]
    assert set(found) >= {"wrong"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    [
        pytest.param("program", marks=pytest.mark.long),
        "continuation",
        pytest.param("bare program", marks=pytest.mark.long),
    ],
)
def test_every_solution_passes(humaneval, kind, form):
    def answer(problem) -> str:
        if form == "continuation":
            return parts(problem)[1]
        return code.gold_text(problem) if form == "program" else problem.solution

    verdicts = code.judge_all([(p, answer(p)) for p in humaneval], kind=kind)
    assert len(verdicts) == 164
    assert not [
        (p.id, v.reason) for p, v in zip(humaneval, verdicts, strict=True) if v.status != "right"
    ]


def test_gold_is_checked_before_a_run(humaneval):
    spoilt = humaneval[0].__class__(
        **{**_fields(humaneval[0]), "solution": parts(humaneval[0])[0] + "    return None\n"}
    )
    [(problem, verdict)] = verifiers.check_gold([humaneval[1], spoilt])
    assert problem.id == "HumanEval/0"
    assert verdict.reason.startswith("wrong: assert candidate(")


def _fields(problem) -> dict[str, object]:
    return {name: getattr(problem, name) for name in problem.__dataclass_fields__}


@pytest.mark.long
@pytest.mark.slow
def test_mutants_get_the_verdict_of_plain_execution(humaneval, capsys):
    items = chosen(humaneval)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        expected = list(threads.map(plain, items))
    verdicts = code.judge_all(
        [(p, f"```python\n{parts(p)[0]}{body}\n```") for p, body in items], limits=LIMITS
    )
    found = [v.reason.split(":")[0] for v in verdicts]
    rows = zip(items, expected, found, verdicts, strict=True)
    differ = [(p.id, body, want, v.reason) for (p, body), want, got, v in rows if want != got]
    with capsys.disabled():
        print(
            f"\n{len(items) - len(differ)} of {len(items)} mutants: the same verdict; {dict(Counter(expected))}"
        )
    assert set(expected) >= {"pass", "wrong", "runtime", "time", "syntax"}
    assert not differ
