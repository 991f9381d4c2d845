"""The shape of the code: sizes, the direction of imports, what importing costs, docstrings, no swallowed exceptions."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import child
import pytest

pytestmark = pytest.mark.slow  # `make check` runs it

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "potstill"
FILES = sorted(PACKAGE.rglob("*.py"))

# Past these the reader is asked to look twice; about 500 lines a file and 40 a function read well.
FILE_LINES, FUNCTION_LINES, PARAMETERS = 800, 80, 10

BASE = (
    "records",
    "values",
    "errors",
    "config",
    "escape",
    "secrets",
    "plugins",
    "extras",
    "metadata",
    "template",
    "difficulty",
    "__version__",
)
# What each part may import from the package, beside BASE; a name stands for itself and what lies in it.
IMPORTS: dict[str, tuple[str, ...]] = {
    "__init__": ("api",),
    "api": (
        "api_checks",
        "viewer",
        "report",
        "runs",
        "methods",
        "training",
        "store",
        "evaluation",
        "traces",
        "data",
        "models",
        "budget",
        "verifiers",
        "objectives",
    ),
    "api_checks": ("models.model",),
    "records": (),
    "values": (),
    "errors": (),
    "config": (),
    "escape": (),
    "secrets": (),
    "plugins": (),
    "extras": (),
    "metadata": (),
    "template": (),
    "difficulty": (),
    "objectives": (),
    "verifiers": (),
    "cluster": ("verifiers",),
    "data": ("verifiers",),
    "models": ("data", "cluster"),
    "budget": ("models.model", "models.phase", "models.scoring", "data"),
    "store": ("budget", "models", "data"),
    "traces": ("models", "verifiers"),
    "methods": ("traces", "models.model", "models.scoring", "models.token_scoring"),
    "training": ("objectives", "models", "verifiers", "data", "cluster"),
    "evaluation": (
        "traces",
        "verifiers",
        "data",
        "models.model",
        "models.phase",
        "models.scoring",
    ),
    "world": ("data", "verifiers", "training", "models"),
    "report": ("evaluation", "store", "data"),
    "runs": (
        *("methods", "training", "store", "evaluation", "world", "traces"),
        *("data", "models", "budget", "verifiers", "objectives", "cluster"),
    ),
    "studies": (
        *("runs", "report", "methods", "training", "store", "evaluation", "world", "traces"),
        *("data", "models", "budget", "verifiers", "objectives"),
    ),
    "serving": ("models",),
    "viewer": (
        *("runs", "report", "evaluation", "store", "data", "models", "traces"),
        *("training.settings", "training.step_log", "training.rollout_log", "budget.amounts"),
    ),
    "cli": (
        *(
            "viewer",
            "serving",
            "cluster",
            "runs",
            "report",
            "studies",
            "methods",
            "training",
            "store",
            "evaluation",
            "world",
            "traces",
        ),
        *("data", "models", "budget", "verifiers", "objectives"),
    ),
    "__main__": ("cli",),
}
# Text code never imports torch, not even inside a function: these are where tensors live.
TENSORS = ("objectives", "training", "models/local", "world/build.py", "world/learn.py", "studies")
LIGHT = (
    *(
        "records",
        "errors",
        "escape",
        "data.problems",
        "data.layouts",
        "traces",
        "methods",
        "verifiers",
    ),
    *("evaluation", "store", "budget.budget", "methods.catalogue", "runs.recipe", "runs.driver"),
    *(
        "runs.sources",
        "runs.experiment",
        "runs.open_folder",
        "runs.train",
        "runs.trained_prompt",
        "runs.preflight",
        "runs.stages",
        "runs.collect",
        "runs.stand_in",
        "runs.measure",
        "runs.results",
        "runs.dry_run",
        "runs.estimate",
        "runs.export",
    ),
    *(
        "runs.dataset_card",
        "report.page",
        "training.settings",
        "training.memory_estimate",
        "world.oracle",
        "viewer.serve",
        "cli",
    ),
)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@cache
def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, at its top or inside a function, the imported name included."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name(path)} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_files_are_short():
    long = {name(p): n for p in FILES if (n := len(p.read_text("utf-8").splitlines())) > FILE_LINES}
    assert not long


def test_functions_are_short():
    spans = {
        f"{name(p)}:{f.name}": (f.end_lineno or 0) - f.lineno + 1
        for p in FILES
        for f in functions(p)
    }
    assert not {where: lines for where, lines in spans.items() if lines > FUNCTION_LINES}


def test_functions_take_few_parameters():
    counts = {}
    for path in FILES:
        for function in functions(path):
            args = function.args
            named = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
            counts[f"{name(path)}:{function.name}"] = len(
                [a for a in named if a not in ("self", "cls")]
            )
    # `Scripted.load`-like factories pass **options on; what is counted is what a reader must know by name.
    assert not {where: n for where, n in counts.items() if n > PARAMETERS}


def test_every_part_has_a_line_in_the_table():
    assert {part(path) for path in FILES} <= set(IMPORTS)


def test_every_folder_is_a_package():
    # What has no __init__.py is not installed with the rest.
    folders = {path.parent for path in FILES}
    assert not [name(folder) for folder in folders if not (folder / "__init__.py").exists()]


def trespasses(area: str, targets: set[str]) -> list[str]:
    """Those of the imported names that the table does not allow to a part."""
    allowed = [f"potstill.{entry}" for entry in (*BASE, *IMPORTS[area], area)]
    inside = [t for t in sorted(targets) if t == "potstill" or t.startswith("potstill.")]
    return [
        t for t in inside if not any(t == entry or t.startswith(f"{entry}.") for entry in allowed)
    ]


@pytest.mark.parametrize("area", IMPORTS)
def test_imports_point_down(area):
    wrong = {
        name(p): found
        for p in FILES
        if part(p) == area and (found := trespasses(area, imported(p)))
    }
    assert not wrong


def test_the_check_of_imports_can_fail():
    assert trespasses("traces", {"potstill.store.store.Store", "re", "potstill.records.Trace"}) == [
        "potstill.store.store.Store"
    ]
    assert trespasses("traces", {"potstill.training.fit.fit", "potstill.models.model.Model"}) == [
        "potstill.training.fit.fit"
    ]
    assert trespasses("records", {"potstill.recordsx.y", "potstill.errors"}) == [
        "potstill.recordsx.y"
    ]


def test_the_table_has_no_circles():
    def reached(area: str) -> set[str]:
        direct = {entry.split(".")[0] for entry in IMPORTS[area]}
        return direct | {far for entry in direct for far in reached(entry)}

    assert not [area for area in IMPORTS if area in reached(area)]


def module_name(path: Path) -> str:
    """The dotted name under which a file of the package is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_at_the_top(path: Path, modules: set[str]) -> set[str]:
    """The modules of the package that a file imports when it is itself imported: not inside functions."""
    nodes: list[ast.AST] = [tree(path)]
    targets: set[str] = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            nodes += node.orelse
            continue
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from package import name`: the module of that name, or else the package itself.
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                targets.add(module if module in modules else str(node.module))
        nodes += ast.iter_child_nodes(node)
    return targets & modules


def import_cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Cycles of a graph of imports: one for each import that leads back to where the search came from."""
    cycles: list[list[str]] = []
    finished: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            cycles.append([*trail[trail.index(module) :], module])
            return
        if module in finished:
            return
        for target in sorted(graph[module]):
            visit(target, [*trail, module])
        finished.add(module)

    for module in sorted(graph):
        visit(module, [])
    return cycles


def test_no_module_is_in_an_import_cycle():
    modules = {module_name(path) for path in FILES}
    graph = {module_name(path): imports_at_the_top(path, modules) for path in FILES}
    assert not [" -> ".join(cycle) for cycle in import_cycles(graph)]


def test_the_check_for_import_cycles_can_fail(tmp_path):
    assert import_cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "c"}}) == [["b", "c", "b"]]
    assert not import_cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    file = tmp_path / "file.py"
    file.write_text(
        "import p.a\nfrom p import b, name\nclass C:\n    from p.c import x\ndef f():\n    import p.d\n"
    )
    modules = {"p", "p.a", "p.b", "p.c", "p.d"}
    assert imports_at_the_top(file, modules) == {"p", "p.a", "p.b", "p.c"}


def test_torch_stays_behind_its_wall():
    heavy = {
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "safetensors",
        "tokenizers",
        "numpy",
        "trl",
    }
    wrong = []
    for path in FILES:
        where = path.relative_to(PACKAGE).as_posix()
        if where == "world/tokenizer.py" or any(
            where == t or where.startswith(f"{t}/") for t in TENSORS
        ):
            continue
        wrong += [
            f"{where} imports {target}"
            for target in imported(path)
            if target.split(".")[0] in heavy
        ]
    assert not wrong


def test_what_importing_loads():
    """In one fresh interpreter, module after module, so that the first that loads torch is named."""
    code = "import importlib, sys\n"
    for module in LIGHT:
        code += f"importlib.import_module('potstill.{module}')\n"
        code += "heavy = {'torch', 'transformers', 'math_verify', 'datasets', 'pyarrow', 'pandas', 'pydantic'}\n"
        code += "heavy &= set(sys.modules)\n"
        code += f"assert not heavy, ('potstill.{module}', heavy)\n"
    child.run([sys.executable, "-c", code])


def documented(path: Path) -> list[str]:
    """Public names of a file without a docstring."""
    module, missing = tree(path), []
    if not ast.get_docstring(module) and path.read_text().strip():
        missing.append(name(path))
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            inner = node.body if isinstance(node, ast.ClassDef) else []
            public = [
                n for n in inner if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")
            ]
            missing += [
                f"{name(path)}:{n.name}" for n in (node, *public) if not ast.get_docstring(n)
            ]
    return missing


def test_everything_public_has_a_docstring():
    assert not [missing for path in FILES for missing in documented(path)]


def is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        k is None or (isinstance(k, ast.Name) and k.id in ("Exception", "BaseException"))
        for k in kinds
    )


def is_idle(statement: ast.stmt) -> bool:
    """A statement that forgets the exception: pass, continue, break, a constant, or the return of one."""
    if isinstance(statement, ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Constant)
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass | ast.Continue | ast.Break)


def swallowed(code: ast.Module) -> list[int]:
    handlers = [n for n in ast.walk(code) if isinstance(n, ast.ExceptHandler) and is_broad(n)]
    return [handler.lineno for handler in handlers if all(map(is_idle, handler.body))]


def test_no_exception_is_swallowed():
    assert not [f"{name(path)}:{line}" for path in FILES for line in swallowed(tree(path))]


@pytest.mark.parametrize("body", ["pass", "return None", "continue", "...", "return 'x'"])
@pytest.mark.parametrize(
    "kind", ["", " Exception", " BaseException as e", " (ValueError, Exception)"]
)
def test_the_check_for_swallowed_exceptions_can_fail(kind, body):
    assert swallowed(
        ast.parse(f"def f():\n for x in y:\n  try:\n   g()\n  except{kind}:\n   {body}")
    ) == [5]
    assert swallowed(ast.parse("try:\n g()\nexcept Exception as e:\n note(e)")) == []
    assert swallowed(ast.parse("try:\n g()\nexcept ValueError:\n pass")) == []


def test_no_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.])/(?:home|Users|root|work|mnt|opt)/\w|[A-Z]:\\\\?Users")
    folders = ("potstill", "docs", "recipes", "examples", "benchmarks", "tests")
    texts = [
        p
        for f in folders
        for p in (ROOT / f).rglob("*")
        if p.suffix in (".py", ".md", ".yaml", ".json", ".css")
    ]
    texts += [
        p for p in (ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml") if p.exists()
    ]
    found = {
        name(p): m[0]
        for p in texts
        if p != Path(__file__).resolve() and (m := pattern.search(p.read_text()))
    }
    assert not found


def test_tests_mirror_the_package():
    folders = {
        p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and any(p.rglob("*.py"))
    } - {"fakes"}
    packages = {p.name for p in PACKAGE.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders <= packages
    untested = packages - folders
    assert not untested, f"no tests for {untested}"


def test_no_two_test_files_have_one_name():
    names = Counter(p.name for p in (ROOT / "tests").rglob("*.py") if p.name != "conftest.py")
    assert not [n for n, count in names.items() if count > 1]
    assert not list((ROOT / "tests").rglob("__init__.py"))
