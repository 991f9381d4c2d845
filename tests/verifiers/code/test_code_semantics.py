"""Tests and program in two processes behave as in one: arguments changed in place, classes, iterators, exceptions."""

# ruff: noqa: E501  a program is one string

from __future__ import annotations

import json

import pytest
from slow_cases import slow_except

from potstill.records import Problem
from potstill.verifiers.code import extract, sandbox
from potstill.verifiers.code import verifier as code
from potstill.verifiers.code.sandbox import Limits


@pytest.fixture(scope="module", autouse=True)
def sandboxed():
    if all(map(sandbox.sandbox_obstacle, sandbox.KINDS)):
        pytest.skip(
            "; ".join(f"{kind}: {sandbox.sandbox_obstacle(kind)}" for kind in sandbox.KINDS)
        )


def verdict(program: str, *tests: str, limits: Limits = Limits(seconds=2)):
    problem = Problem(id="p", question="?", kind="code", tests=tests)
    [found] = code.judge_all([(problem, f"```python\n{program}\n```")], limits=limits)
    return found


POINT = """
class Point:
    def __init__(self, x, y=0): self.x, self.y = x, y
    def __add__(self, other): return Point(self.x + other.x, self.y + other.y)
    def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)
    def __len__(self): return 2
    def __getitem__(self, n): return (self.x, self.y)[n]
    def __repr__(self): return f"Point({self.x}, {self.y})"
    def scaled(self, by): return Point(self.x * by, self.y * by)
def largest(points): return max(points, key=lambda p: p.x)
class Full(Exception): pass
"""
SAME = {
    "plain": ("def f(a, b=2, *c, **d): return [a, b, c, d]", "assert f(1, 2, 3, k=4) == [1, 2, (3,), {'k': 4}]"),
    "scalars": ("def f(x): return x", "for x in (None, True, 1, -2**70, 1.5, 'ä\\ud800', b'x', 1j, 10**4000, ...): assert f(x) == x and type(f(x)) is type(x)"),
    "not a number": ("def f(x): return x", "import math\nassert math.isnan(f(float('nan'))) and f(float('inf')) == float('inf')"),
    "containers": ("def f(x): return x", "for x in ([], {}, (), set(), frozenset([1]), {(1, 2): [3]}, [[1], (2, {3})], range(3), bytearray(b'a')): assert f(x) == x and type(f(x)) is type(x)"),
    "library types": ("def f(x): return x", "from fractions import Fraction\nfrom decimal import Decimal\nimport datetime as d\nfor x in (Fraction(1, 3), Decimal('1.10'), d.date(2020, 1, 2), d.timedelta(3), d.datetime(2020, 1, 2, 3)): assert f(x) == x"),
    "counters": ("from collections import *\ndef f(x): return Counter(x), OrderedDict(a=1), deque(x), defaultdict(int, a=1)", "c, o, d, e = f('aab')\nassert c == {'a': 2, 'b': 1} and c.most_common(1) == [('a', 2)] and o == {'a': 1} and list(d) == list('aab') and e == {'a': 1}"),
    "named tuple": ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)", "assert f() == (1, 2) and f().x == 1"),
    "changed in place": ("def f(x): x.sort(); x.append([0])", "x = [3, 1]\nassert f(x) is None and x == [1, 3, [0]]"),
    "changed deep inside": ("def f(x): x['a'][0].add(2)", "x = {'a': [{1}]}\ninner = x['a'][0]\nf(x)\nassert inner == {1, 2} and x['a'][0] is inner"),
    "given back": ("def f(x): return x", "x = [1]\nassert f(x) is x"),
    "aliases": ("def f(x, y): x.append(1); return y", "x = []\nassert f(x, x) == [1]"),
    "cycle": ("def f(x): return x", "x = []\nx.append(x)\nassert f(x)[0] is x"),
    "views": ("def f(x): return x.keys(), x.values(), x.items()", "k, v, i = f({1: 2})\nassert k == {1} and list(v) == [2] and list(i) == [(1, 2)]"),
    "generator": ("def f(n):\n  for i in range(n): yield i", "assert list(f(3)) == [0, 1, 2] and sum(f(4)) == 6 and next(f(1)) == 0\nassert f(2) != [0, 1]"),
    "endless generator": ("import itertools\ndef f(): return itertools.count()", "assert [x for x, _ in zip(f(), range(3))] == [0, 1, 2]"),
    "exception": ("def f(x): return [1][x]", "try: f(5); assert False\nexcept IndexError as e: assert 'range' in str(e)"),
    "own exception": (POINT + "def f(): raise Full('no')", "try: f(); assert False\nexcept Exception as e: assert str(e) == 'no'"),
    "class": (POINT, "p = Point(1, y=2)\nassert p.x == 1 and p.scaled(3).y == 6 and len(p) == 2 and p[1] == 2 and str(p) == 'Point(1, 2)'\nassert isinstance(p, Point) and p.scaled(1) == p and p.scaled(2) != p"),
    "objects as arguments": (POINT, "assert largest([Point(1), Point(5), Point(3)]).x == 5"),
    "attribute set": (POINT, "p = Point(1)\np.x = 7\nassert p.scaled(1).x == 7"),
    "function as argument": ("def f(g, x): return [g(v) for v in x]", "assert f(lambda v: v + 1, [1, 2]) == [2, 3]\nassert f(len, ['ab']) == [2] and f(str, [1]) == ['1']"),
    "function that calls back": ("def f(g, n): return n if n == 0 else g(n - 1)", "def g(n): return f(g, n) + 1\nassert f(g, 3) == 3"),
    "function as result": ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5"),
    "constant": ("MOD = 7\ndef f(x): return x % MOD", "assert f(9) == 9 % MOD"),
    "state between calls": ("seen = []\ndef f(x): seen.append(x); return len(seen)", "assert f(1) == 1\nassert f(1) == 2"),
    "several functions": ("def f(x): return g(x)\ndef g(x): return x * 2", "assert f(2) == g(2) == 4"),
    "dataclass": ("from dataclasses import dataclass\n@dataclass\nclass D:\n  x: int = 1\ndef f(): return D(3)", "assert f().x == 3 and D().x == 1"),
    "unittest": ("def f(x): return x", "import unittest\nclass T(unittest.TestCase):\n  def test_f(self): self.assertEqual(f(1), 1)\n"),
    "prints": ("print('hello')\ndef f(x):\n  print(x)\n  return x", "assert f(1) == 1"),
    "demonstration": ("def f(x): return x\nif __name__ == '__main__':\n  print(f(int(input())))", "assert f(1) == 1"),
    "module of the tests": ("import math\ndef f(x): return x", "assert math.sqrt(f(4)) == 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", slow_except(list(SAME)[::6], SAME))
def test_as_in_one_process(name):
    program, test = SAME[name]
    found = verdict(program, test)
    assert found.status == "right", found
    space = {"__name__": "answer"}
    if name not in ("unittest", "module of the tests", "demonstration", "dataclass"):
        exec(
            program + "\n" + test, space
        )  # our own lines, above: the same passes without any sandbox


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in SAME if "f(" in SAME[name][1] and name not in ("own exception",)]
)
def test_a_program_that_returns_nothing_fails_them(name):
    assert (
        verdict(
            "def f(*a, **k): return None\ndef g(x): pass\nMOD = 1\nclass D: pass", SAME[name][1]
        ).status
        == "wrong"
    )


def test_what_the_tests_hand_over_that_cannot_cross_is_not_the_programs_fault():
    found = verdict("def f(x): return 1", "class Own: pass\nassert f(Own()) == 1")
    assert found.status == "unjudged" and found.reason.startswith(
        "unserved: the tests hand over a Own"
    )


def test_tests_that_call_nothing_prove_nothing():
    found = verdict("def f(x): return 1", "def test_f():\n    assert f(1) == 2\n")
    assert found.status == "unjudged" and "never call" in found.reason


def test_tests_that_cannot_be_read():
    assert verdict("x = 1").reason == "the problem has no tests"
    assert verdict("x = 1", '{"stdout": "1"}').status == "unjudged"


CASES = (
    json.dumps({"stdin": "1 2\n", "stdout": "3\n"}),
    json.dumps({"stdin": "5 5\n", "stdout": "10"}),
    json.dumps({"stdin": "0.1 0.2", "stdout": "0.3", "tolerance": 1e-6}),
)
ADD = "a, b = input().split()\nprint(sum(float(v) if '.' in v else int(v) for v in (a, b)), ' ')\n"


@pytest.mark.slow
def test_standard_input_and_output():
    found = verdict(ADD, *CASES)
    assert found.status == "right" and found.reason.startswith("pass: 3 tests ["), found
    assert found.verifier == code.VERSION and found.answer == ADD.strip("\n")
    found = verdict(ADD.replace("sum", "max"), *CASES)
    assert found.reason.startswith("wrong: test 1: prints '2', not '3'")
    assert verdict(ADD + "exit()", *CASES).status == "right"
    assert verdict("import sys\nsys.stdout.buffer.write(b'\\xff')", CASES[0]).status == "wrong"


@pytest.mark.slow
def test_limits_of_a_test():
    slow = "import time\nwhile time.process_time() < 1.2: pass\nprint(3)"
    assert verdict(slow, json.dumps({"stdin": "", "stdout": "3", "seconds": 1})).reason.startswith(
        "time"
    )
    assert verdict(slow, json.dumps({"stdin": "", "stdout": "3", "seconds": 4})).status == "right"
    large = "x = bytearray(200 << 20)\nprint(3)"
    assert verdict(
        large, json.dumps({"stdin": "", "stdout": "3", "memory_mb": 100})
    ).reason.startswith("memory")
    assert (
        verdict(large, json.dumps({"stdin": "", "stdout": "3", "memory_mb": 400})).status == "right"
    )


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("1\n2\n", "1\r\n2", True),
        ("1  \n2", "1\n2\n\n", True),
        ("1\n\n2", "1\n2", False),
        ("1 2", "1  2", False),
        ("", "", True),
        ("", "0", False),
        ("12", "1", False),
        ("1.0", "1", False),
    ],
)
def test_outputs_are_compared_by_lines(printed, expected, same):
    assert code.same_output(printed, expected) is same


def test_numbers_within_a_tolerance():
    assert code.same_output("a 0.3000001", "a 0.3", 1e-6) and not code.same_output(
        "a 0.31", "a 0.3", 1e-6
    )
    assert not code.same_output("nan", "0.3", 1e-6) and not code.same_output("0.3 1", "0.3", 1e-6)


F = "def f(x):\n    return x"
EXTRACTED = {
    "fence": (f"Here:\n```python\n{F}\n```\nDone.", F),
    "last that defines": (f"```python\n{F}\n```\nTry\n```python\nprint(f(1))\n```", F),
    "last of two": (f"```python\ndef f(x): return 0\n```\nBetter:\n```py\n{F}\n```", F),
    "no language": (f"```\n{F}\n```", F),
    "other language": (f"```bash\nls\n```\n```python\n{F}\n```\n```text\nf(1)\n```", F),
    "after thinking": (f"<think>```python\ndef f(x): return 0\n```</think>\n```python\n{F}\n```", F),
    "cut off": (f"```python\n{F}", F),
    "bare": (F, F),
    "windows": (f"```python\r\n{F}\r\n```".replace("\n    ", "\r\n    "), F),
    "tilde": (f"~~~python\n{F}\n~~~", F),
    "backticks in a string": ('```python\ndef f(x):\n    s = "```"\n    return s\n```', 'def f(x):\n    s = "```"\n    return s'),
    "tag": (f"<answer>{F}</answer>", F),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTRACTED)
def test_the_program_is_found(name):
    text, expected = EXTRACTED[name]
    found = extract.extract_program(text, extract.Wanted(entry="f"))
    assert found is not None and found.text.strip() == expected


@pytest.mark.parametrize(
    "text",
    ["", "I do not know.", "<think>def f(x): return x", "```python\n\n```", "42", "```\n```"],
)
def test_no_code_is_unparsed(text):
    problem = Problem(
        id="p",
        question="?",
        kind="code",
        tests=(json.dumps({"unit": "assert f(1) == 1", "entry": "f"}),),
    )
    found = code.judge(problem, text)
    assert found.status == "unparsed" and found.reason.startswith("no code")


PREFIX = 'import math\ndef helper(x):\n    return x + 1\n\ndef f(x):\n    """The root of x."""\n'


@pytest.mark.parametrize(
    "answer",
    [
        "    return math.sqrt(helper(x) - 1)",
        "return math.sqrt(x)",
        "```python\n    return math.sqrt(x)\n```",
        "```python\ny = math.sqrt(x)\nreturn y\n```",
        "    return math.sqrt(x)\n\n\nprint(f(4))\nThis is the answer, isn't it?",
        "```python\ndef f(x):\n    return math.sqrt(x)\n```",
        "```python\n    def f(x):\n        return math.sqrt(x)\n```",
        "Sure! Here it is:\n\ndef f(x):\n    return math.sqrt(x)\n\nIt's simple.",
        "```python\nf = lambda x: helper(math.sqrt(x)) - 1\n```",
        "```python\nfrom __future__ import annotations\ndef f(x): return math.sqrt(x)\n```",
    ],
)
def test_continuations_and_programs(answer):
    test = json.dumps(
        {"unit": "def check(c):\n    assert c(4) == 2", "entry": "f", "prefix": PREFIX}
    )
    found = code.judge(Problem(id="p", question="?", kind="code", tests=(test,)), answer)
    assert found.status == "right", found


def test_a_long_hostile_text_takes_no_time():
    import time

    for text in (
        "```" * 100_000,
        "`" * 1_000_000,
        "```python\n" * 100_000,
        "def " * 500_000,
        "x = " * 500_000,
        " " * 10**6,
    ):
        began = time.monotonic()
        extract.extract_program(text, extract.Wanted(prefix="def f():\n", entry="f"))
        assert time.monotonic() - began < 1
