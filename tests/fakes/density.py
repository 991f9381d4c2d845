"""How dense a package's code is: figures that codebases which people hold up as models keep low (or, of two, high)."""

from __future__ import annotations

import ast
import io
import statistics
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Names that say nothing of the thing they hold.
WEAK_NAMES = frozenset(
    [
        "found",
        "made",
        "told",
        "said",
        "kept",
        "asked",
        "shown",
        "mine",
        "seen",
        "given",
        "known",
        "own",
        "rest",
    ]
)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Density(NamedTuple):
    """Figures of a package.

    `weak_names` per 1,000 assigned names; `nested_comprehensions`, `conditional_expressions` and `comments` per 1,000
    lines; `nodes` of the syntax tree a line; `function_name`: the median length of a function's name.
    """

    weak_names: float
    nested_comprehensions: float
    conditional_expressions: float
    nodes: float
    comments: float
    function_name: float


def measure(package: Path) -> Density:
    """The figures of all Python files below a folder."""
    line_count = comment_count = node_count = 0
    nested = conditional = assigned = weak = 0
    name_lengths: list[int] = []
    for path in sorted(package.rglob("*.py")):
        source = path.read_text("utf-8")
        line_count += source.count("\n")
        comment_count += sum(1 for _ in _comments(source))
        for node in ast.walk(ast.parse(source)):
            node_count += 1
            if isinstance(node, COMPREHENSIONS):
                nested += _is_nested(node)
            elif isinstance(node, ast.IfExp):
                conditional += 1
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name_lengths.append(len(node.name))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                assigned += 1
                weak += node.id.strip("_") in WEAK_NAMES
    thousands = max(line_count, 1) / 1000
    return Density(
        weak_names=1000 * weak / max(assigned, 1),
        nested_comprehensions=nested / thousands,
        conditional_expressions=conditional / thousands,
        nodes=node_count / max(line_count, 1),
        comments=comment_count / thousands,
        function_name=statistics.median(name_lengths or [0]),
    )


def _comments(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def _is_nested(comprehension: ast.AST) -> bool:
    """Whether a comprehension has several loops, or another comprehension in it."""
    generators = getattr(comprehension, "generators", [])
    inner = [node for node in ast.walk(comprehension) if isinstance(node, COMPREHENSIONS)]
    return len(generators) > 1 or len(inner) > 1
