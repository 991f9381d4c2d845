"""Programs that are only arithmetic, computed here: a sandbox takes a quarter of a second to start, this no time.

`solution()` with assignments and a `return` is what most programs are that solve a word problem. Only what is certain
to end as it would in the sandbox is computed; of everything else, a call or a loop, nothing is said.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable, Mapping

from potstill.verifiers.code.execute import RunResult

ENTRY = "solution"
# What a parser in this process is given: short and flat, and without what it would warn of. How deep Python itself
# lets a program nest is a setting of the process, which other libraries raise: no end to rely on.
_MAX_CHARACTERS = 4_000
_MAX_SIGNS = 150
_MAX_SIZE = 10**30  # of a number: beyond it computing may take long
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class _NotArithmeticError(Exception):
    """The program has something else in it."""


def compute(source: str) -> RunResult | None:
    """How a program ends and what it prints, where it is only arithmetic; None where a sandbox must run it.

    Args:
        source: a program that defines `solution()`, whose value is printed.
    """
    # Every sign may be a level of nesting: `--1`, `1 + 1 + 1`.
    signs = sum(source.count(sign) for sign in "([{+-*/%~")
    if len(source) > _MAX_CHARACTERS or signs > _MAX_SIGNS or "\\" in source:
        return None
    try:
        body = _body_of_solution(ast.parse(source))
        value = _run(body)
    except SyntaxError as error:
        return RunResult("syntax", f"SyntaxError: {error.msg}")
    except NameError as error:
        return RunResult("runtime", f"NameError: {error}")
    except ZeroDivisionError as error:
        return RunResult("runtime", f"ZeroDivisionError: {error}")
    except (_NotArithmeticError, ValueError, OverflowError, RecursionError, MemoryError):
        return None
    return RunResult("pass", "", f"{value}\n".encode())


def _body_of_solution(module: ast.Module) -> list[ast.stmt]:
    """The statements of the one function that the program may define."""
    if len(module.body) != 1:
        raise _NotArithmeticError
    function = module.body[0]
    if not isinstance(function, ast.FunctionDef) or function.name != ENTRY:
        raise _NotArithmeticError
    if function.decorator_list or ast.unparse(function.args):
        raise _NotArithmeticError
    return function.body


def _run(body: list[ast.stmt]) -> float | None:
    """The value that the statements return."""
    # A name that is assigned somewhere is a local one, which fails in other words where it is used too early.
    assigned: set[str] = set()
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned.add(node.id)
    values: dict[str, float] = {}
    returned: float | None = None
    has_returned = False
    for statement in body:
        # Never reached, and yet not without effect: a `yield` there makes a generator of the function.
        if has_returned:
            raise _NotArithmeticError
        match statement:
            # Python compiles no assignment to `__debug__`.
            case ast.Assign(targets=[ast.Name(id=name)], value=expression) if name[:2] != "__":
                values[name] = _evaluate(expression, values, assigned)
            case ast.Return(value=ast.expr() as expression):
                returned = _evaluate(expression, values, assigned)
                has_returned = True
            case ast.Expr(value=ast.Constant(value=str())):
                pass  # a docstring
            case ast.Pass():
                pass
            case _:
                raise _NotArithmeticError
    return returned


def _evaluate(node: ast.expr, values: Mapping[str, float], assigned: set[str]) -> float:
    """The number that an expression comes to."""
    result: float
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            result = number
        case ast.Name(id=name):
            result = _look_up(name, values, assigned)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            result = -_evaluate(operand, values, assigned)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            first = _evaluate(left, values, assigned)
            result = _OPERATORS[type(op)](first, _evaluate(right, values, assigned))
        case _:
            raise _NotArithmeticError
    if abs(result) > _MAX_SIZE:
        raise _NotArithmeticError
    return result


def _look_up(name: str, values: Mapping[str, float], assigned: set[str]) -> float:
    if name in values:
        return values[name]
    # A local one, the function itself and what every program has are not missing.
    is_elsewhere = name in assigned or name == ENTRY or hasattr(builtins, name)
    if is_elsewhere or name.startswith("__"):
        raise _NotArithmeticError
    raise NameError(f"name {name!r} is not defined")
