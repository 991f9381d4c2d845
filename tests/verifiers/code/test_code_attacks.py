"""Programs that try to pass without solving, to look out, or to take the machine: none gets anything, all end in time."""

# ruff: noqa: E501  a program is one string

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from potstill.records import Problem
from potstill.verifiers.code import execute, sandbox, verifier
from potstill.verifiers.code.sandbox import Limits

LIMITS = Limits(seconds=1, memory=256 << 20, output=1 << 20, file=1 << 20, scratch=4 << 20)
SECRET = 718_281_828  # what the tests expect; no program is told
UNIT = json.dumps(
    {
        "unit": f"def check(candidate):\n    assert candidate(1) == {SECRET}\n    assert candidate([2]) == [{SECRET + 1}]\n",
        "entry": "f",
    }
)
STDIO = json.dumps({"stdin": "1\n", "stdout": f"{SECRET}\n"})


@pytest.fixture(params=sandbox.KINDS)
def kind(request):
    """Each kind of sandbox that this machine has."""
    why = sandbox.sandbox_obstacle(request.param)
    if why:
        pytest.skip(f"{request.param} does not work here: {why}")
    return request.param


def verdict(program: str, kind: str, test: str = UNIT, limits: Limits = LIMITS):
    problem = Problem(id="p", question="f?", kind="code", tests=(test,))
    began = time.monotonic()
    [found] = verifier.judge_all(
        [(problem, f"```python\n{program}\n```")], kind=kind, limits=limits
    )
    assert time.monotonic() - began < limits.wall + 15
    return found


ALWAYS = "class Always(%s):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    __hash__ = None\n"
FORGERIES = {
    "early exit": "import sys\nsys.exit(0)",
    "early exit in the call": "import sys\ndef f(x): sys.exit(0)",
    "os._exit": "import os\ndef f(x): os._exit(0)",
    "os._exit at import": "import os\nos._exit(0)",
    "exit by atexit": "import atexit, os\natexit.register(lambda: print('pass')); atexit.register(os._exit, 0)\ndef f(x): raise SystemExit",
    "KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "GeneratorExit": "def f(x): raise GeneratorExit",
    "AssertionError replaced": "import builtins\nclass Quiet(Exception): pass\nbuiltins.AssertionError = Quiet\ndef f(x): return 0",
    "assert taken out": "import builtins, ast\nreal = builtins.compile\nbuiltins.compile = lambda s, *a, **k: real('pass', *a)\ndef f(x): return 0",
    "exec replaced": "import builtins\nbuiltins.exec = lambda *a: None\ndef f(x): return 0",
    "__eq__ of an object": ALWAYS % "object" + "def f(x): return Always()",
    "subclass of int": ALWAYS % "int" + "def f(x): return Always(3)",
    "subclass of str": ALWAYS % "str" + "def f(x): return Always('3')",
    "subclass of list": ALWAYS % "list" + "def f(x): return Always()",
    "subclass of dict": ALWAYS % "dict" + "def f(x): return Always()",
    "metaclass": "class M(type):\n    def __eq__(c, o): return True\n    __hash__ = None\nclass A(metaclass=M): pass\ndef f(x): return A",
    "arguments changed": "def f(x):\n    if isinstance(x, list): x[:] = [1]\n    return x",
    "argument that compares": ALWAYS % "object" + "def f(x):\n    if isinstance(x, list): x.append(Always())\n    return x",
    "forged output": "print('pass'); print('[\"pass\", \"3 calls\"]', flush=True)\ndef f(x): return None",
    "forged status": "import os\ndef f(x):\n    os.write(1, b'[\"pass\",\"\"]'); os.write(2, b'[\"pass\",\"\"]')\n    os.kill(os.getpid(), 9)",
    "every descriptor written": (
        "import os\ndef f(x):\n  for fd in range(256):\n    try: os.write(fd, b'[\"pass\",\"ok\"]')\n    except OSError: pass\n  return 1"
    ),
    "forged frames": (
        "import os, json\ndef f(x):\n  m = json.dumps({'value': True, 'state': []}).encode()\n  for fd in range(3, 20):\n"
        "    try: os.write(fd, len(m).to_bytes(4, 'big') + m)\n    except OSError: pass\n  return 1"
    ),
    "frames walked": (
        "import sys, gc\ndef f(x):\n  frame = sys._getframe()\n  found = []\n  while frame:\n"
        "    found += [v for v in {**frame.f_locals, **frame.f_globals}.values()]; frame = frame.f_back\n"
        "  found += [o for o in gc.get_objects()]\n"
        "  ints = [o for d in found if isinstance(d, dict) for o in d.values() if isinstance(o, int) and o > 7 * 10**8 and o < 8 * 10**8]\n"
        "  return ints[0] if ints else 0"
    ),
    "own memory searched": (
        "def f(x):\n  for path in ('/proc/self/maps', '/proc/self/mem', '/proc/1/environ', '/proc/2/fd/3'):\n"
        "    try: return open(path, 'rb').read()\n    except OSError: pass\n  return 0"
    ),
    "modules replaced": (
        "import sys, types\nfor name in ('json', 'potstill.verifiers.code.inside.protocol', 'potstill.verifiers.code.inside.serve'):\n"
        "  m = sys.modules.get(name)\n  if m: [setattr(m, k, lambda *a, **k: True) for k in list(vars(m)) if k[:2] != '__']\ndef f(x): return 0"
    ),
    "bomb in a pickle": "import os\nclass B:\n  def __reduce__(self): return (os.abort, ())\ndef f(x): return B()",
    "endless iterator": "import itertools\ndef f(x): return itertools.count()",
    "StopIteration": "def f(x): raise StopIteration",
    "an integer too long to print": "def f(x): return 10 ** 100_000",
    "nested too deeply": "def f(x):\n  r = []\n  for _ in range(100_000): r = [r]\n  return r",
    "tests imported": "def f(x):\n  import tests\n  return tests.SECRET",
    "hook of exceptions": "import sys\nsys.excepthook = lambda *a: None\nsys.exit = lambda *a: None\ndef f(x): raise ValueError",
    "signal handlers": "import signal, os\nfor s in range(1, 32):\n  try: signal.signal(s, lambda *a: os._exit(0))\n  except (OSError, ValueError): pass\ndef f(x): os.kill(os.getpid(), 15)",
    "parent killed": "import os, signal\ndef f(x):\n  for pid in (os.getppid(), 1, 2, -1):\n    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass\n  return 0",
    "ptrace": "import ctypes, os\ndef f(x):\n  return ctypes.CDLL(None).ptrace(16, os.getppid() or 1, 0, 0)",
    "threads that stay": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\ndef f(x): return 0",
    "builtins of the tests' side": "def abs(x): return 0\ndef len(x): return 0\ndef isinstance(*a): return True\ndef f(x): return 0",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_passes(name, kind):
    found = verdict(FORGERIES[name], kind)
    assert found.status == "wrong", found
    assert found.reason.split(":")[0] in ("wrong", "runtime"), found


def test_the_suite_can_fail(kind):
    solved = f"def f(x): return {SECRET} if x == 1 else [{SECRET + 1}]"
    assert verdict(solved, kind).reason.startswith("pass: 2 calls")
    assert verdict(f"print({SECRET})", kind, STDIO).status == "right"


HELPERS = "import json\ndef check(candidate):\n    assert abs(candidate(1) - 0.5) < 1e-6\n    assert 3 in candidate(2)\n    assert candidate(3) in (1, 2)\n    assert helper(candidate(4))\n"


@pytest.mark.slow
@pytest.mark.parametrize("own", ["def abs(x): return 0", "def helper(x): return True", ""])
def test_operators_of_a_result_are_never_asked(own, kind):
    test = json.dumps(
        {
            "unit": HELPERS,
            "entry": "f",
            "prefix": "def helper(x): return x == 4\ndef f(x):\n    '''f'''\n",
        }
    )
    program = (
        own
        + """
class Any:
    def __getattr__(self, name): return lambda *a: True
    def __sub__(self, other): return 0
    def __abs__(self): return 0
    def __lt__(self, other): return True
    def __contains__(self, other): return True
    def __eq__(self, other): return True
    def __iter__(self): return iter([Any()])
    __hash__ = None
def f(x): return {}.get(x, Any())
"""
    )
    found = verdict(program, kind, test)
    assert found.status == "wrong"
    for passed in range(1, 4):  # and with the first asserts answered honestly, the next one holds
        honest = ["0.5", "[3]", "2"][:passed]
        answers = ", ".join(f"{n}: {value}" for n, value in enumerate(honest, 1))
        assert verdict(program.replace("{}", f"{{{answers}}}"), kind, test).status == "wrong"


def timed(cases):
    """What waits for a limit of time is slow, but for one."""
    return [
        pytest.param(
            name, marks=pytest.mark.slow if "time" in case[1] and name != "endless loop" else ()
        )
        for name, case in cases.items()
    ]


LIMIT_CASES = {
    "endless loop": ("def f(x):\n  while True: pass", "time"),
    "endless loop at import": ("while True: pass", "time"),
    "sleeps": ("import time\ndef f(x): time.sleep(600)", "time"),
    "signals ignored": ("import signal\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\ndef f(x):\n  while True: pass", "time"),
    "limits raised": ("import resource\nfor n in (0, 1, 6, 9):\n  try: resource.setrlimit(n, (-1, -1))\n  except (OSError, ValueError): pass\ndef f(x):\n  while True: pass", "time"),
    "C code that does not end": ("def f(x): return 7 ** 10 ** 9", "time"),
    "regular expression": ("import re\ndef f(x): return re.match('(a+)+$', 'a' * 60 + 'b')", "time"),
    "memory": ("def f(x):\n  r = []\n  while True: r.append(bytearray(1 << 24))", "memory"),
    "memory at once": ("def f(x): return bytearray(1 << 40)", "memory"),
    "memory caught": ("def f(x):\n  r = []\n  try:\n    while True: r.append(bytearray(1 << 20))\n  except MemoryError:\n    return len(r)", "wrong"),
    "recursion": ("def f(x): return f(x)", "runtime"),
    "recursion without a limit": ("import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return [f(x) for _ in range(2)]", ("runtime", "memory", "time")),
    "crash": ("import ctypes\ndef f(x): ctypes.string_at(0)", "runtime"),
    "syntax": ("def f(x) return 1", "syntax"),
    "nested source": ("def f(x): return " + "(" * 5000 + ")" * 5000, "syntax"),
    "nul": ("def f(x):\x00 return 1", "syntax"),
    "output flood": ("def f(x):\n  while True: print('x' * 10_000)", "output"),
    "output flood at import": ("import os\nwhile True: os.write(2, b'x' * 10_000)", "output"),
    "large result": ("def f(x): return 'x' * (100 << 20)", ("runtime", "memory")),
    "name missing": ("def g(x): return 1", "runtime"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", timed(LIMIT_CASES))
def test_every_limit_has_its_class(name, kind):
    program, expected = LIMIT_CASES[name]
    found = verdict(program, kind)
    assert found.status == "wrong"
    assert found.reason.split(":")[0] in ((expected,) if isinstance(expected, str) else expected), (
        found
    )


@pytest.mark.parametrize("test", [UNIT, STDIO])
def test_a_flood_of_output_ends_at_its_limit_and_not_with_the_time(test, kind):
    patient = LIMITS._replace(seconds=60)
    began = time.monotonic()
    found = verdict(
        "def f(x):\n  while True: print('x' * 10_000)\nif __name__ == '__main__': f(1)",
        kind,
        test,
        patient,
    )
    assert found.reason.startswith("output: " if test is UNIT else "output: test 1: ")
    assert "prints more than 1,048,576 bytes" in found.reason
    assert time.monotonic() - began < 20


def test_printing_within_the_limit_is_nobodys_fault(kind):
    talks = f"import sys\ndef f(x):\n  print('x' * 400_000); print('y' * 400_000, file=sys.stderr)\n  return {SECRET} if x == 1 else [{SECRET + 1}]"
    assert verdict(talks, kind).reason.startswith("pass: 2 calls")


def test_sleeping_ends_soon_after_the_limit():
    assert [Limits(seconds=n).wall for n in (1, 10)] == [7.0, 25.0]


WHOLE = {
    "output flood": ("while True: print('x' * 10_000)", "output"),
    "output flood to stderr": ("import sys\nwhile True: print('x' * 10_000, file=sys.stderr)", "output"),
    "endless loop": ("while True: pass", "time"),
    "sleeps": ("import time; time.sleep(600)", "time"),
    "memory": ("x = [0] * 10 ** 9", "memory"),
    "exit 0 without an answer": ("import sys; sys.exit(0)", "wrong"),
    "exit 3": ("import os; os._exit(3)", "runtime"),
    "right, then dies": (f"print({SECRET}, flush=True); raise ValueError", "runtime"),
    "syntax": ("print(", "syntax"),
    "closed output": ("import os; os.close(1); os.close(2)", ("wrong", "runtime")),
    "thread keeps it alive": (f"import threading, time; print({SECRET}); threading.Thread(target=time.sleep, args=(600,)).start()", "time"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", timed(WHOLE))
def test_whole_programs_have_their_class(name, kind):
    program, expected = WHOLE[name]
    found = verdict(program, kind, STDIO)
    assert found.status == "wrong"
    assert found.reason.split(":")[0] in ((expected,) if isinstance(expected, str) else expected), (
        found
    )


@pytest.fixture
def short_wall(monkeypatch):
    """Two seconds on the clock in the place of seven, for programs that sleep to the end."""
    monkeypatch.setattr(Limits, "wall", property(lambda limits: 2.0))
    monkeypatch.setattr(execute, "_GRACE_S", 0.5)


@pytest.mark.slow
def test_a_program_that_closes_its_output_and_sleeps_ends_with_the_time(kind, short_wall):
    program = "import os, time; os.close(1); os.close(2); time.sleep(600)"
    began = time.monotonic()
    assert verdict(program, kind, STDIO).reason.startswith("time: ")
    assert time.monotonic() - began < 10


def output(program: str, kind: str, limits: Limits = LIMITS) -> str:
    """What a program prints from inside."""
    ended = execute.run_program(kind, [[program]], "", limits)
    return ended.output.decode() if ended.outcome == "pass" else f"{ended.outcome}: {ended.detail}"


REACH = """
import os, sys
def reach(path):
    try:
        if os.path.isdir(path): return os.listdir(path)
        return open(path, "rb").read(100)
    except OSError: return None
"""


def test_files_and_environment_of_the_user_are_not_there(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_TEST_KEY", "sk-very-secret")
    (tmp_path / "secret").write_text("sk-very-secret")
    paths = [
        str(tmp_path / "secret"),
        "/etc/passwd",
        "/etc/shadow",
        "/proc",
        "/sys",
        "/home",
        "/var",
        "/run",
        "/dev/shm",
    ]
    paths += [
        str(Path.home() / ".ssh"),
        str(Path(__file__).resolve()),
        str(Path(sys.prefix) / "pyvenv.cfg"),
        "/dev/kmsg",
    ]
    shown = output(
        REACH
        + f"print([p for p in {paths} if reach(p)])\nprint(os.environ.get('POTSTILL_TEST_KEY'))",
        kind,
    )
    assert shown == "[]\nNone\n"
    # nothing of the environment but what the sandbox sets
    names = set(output("import os\nprint(*os.environ)", kind).split())
    assert names <= {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "PYTHONHASHSEED",
        "MALLOC_ARENA_MAX",
        "PWD",
        "LC_CTYPE",
    }


def test_nothing_is_written_but_in_the_scratch_folder(kind, tmp_path):
    places = [
        "/",
        "/usr/lib",
        "/lib",
        "/dev",
        "/etc",
        os.path.dirname(os.__file__),
        "/home",
        "/potstill-inside",
    ]
    places += [
        os.path.join(os.path.dirname(os.__file__), "site-packages"),
        os.path.dirname(os.path.realpath(sys.executable)),
    ]
    program = f"""
import os
def write(folder):
    try:
        os.makedirs(folder, exist_ok=True)
        open(folder + "/escaped", "w").write("x")
        return True
    except OSError: return False
write({str(tmp_path)!r})  # below /tmp, which is the scratch folder inside
print([p for p in {places} if write(p)], write("."), write("/tmp"))
try: open("/potstill-inside/potstill/verifiers/code/inside/protocol.py", "a"); print("ours")
except OSError: print("no")
"""
    assert output(program, kind) == "[] True True\nno\n"
    assert not list(tmp_path.iterdir())
    assert "escaped" not in os.listdir("/")


def test_files_are_limited(kind):
    one = "open('big', 'wb').write(b'x' * (2 << 20))"
    assert output(one, kind).startswith("runtime: OSError: [Errno 27]")
    many = "for n in range(100): open(f'f{n}', 'wb').write(b'x' * (1 << 19))"
    assert output(many, kind).startswith("runtime: OSError: [Errno 28]")
    flood = "n = 0\nwhile True:\n  open(f'f{n}', 'w').close(); n += 1"
    assert output(flood, kind).startswith(("runtime: OSError: [Errno 28]", "time"))


def test_no_network(kind):
    server = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # the server is closed at the end
            accepted.append(server.accept())

    threading.Thread(target=accept, daemon=True).start()
    port = server.getsockname()[1]
    program = f"""
import socket
def reach(family, address):
    try:
        s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(1); s.connect(address); return True
    except OSError as error: return type(error).__name__
print(reach(socket.AF_INET, ("127.0.0.1", {port})), reach(socket.AF_INET, ("8.8.8.8", 53)))
print(reach(socket.AF_INET6, ("::1", {port})), reach(socket.AF_UNIX, "/run/docker.sock"), reach(socket.AF_UNIX, "\\0x"))
"""
    shown = output(program, kind)
    assert "True" not in shown and shown.count("Error") == 5, shown
    assert not accepted
    server.close()


def test_no_further_processes(kind):
    marker = f"potstill-escaped-{os.getpid()}"
    program = f"""
import os, sys, subprocess, threading
def attempt(what):
    try: what(); return "done"
    except BaseException as error: return type(error).__name__
print(attempt(os.fork), attempt(lambda: subprocess.run([sys.executable, "-c", "print(1)", "{marker}"])))
print(attempt(lambda: os.posix_spawn(sys.executable, ["python", "{marker}"], {{}})))
made = 0
def bomb():
    global made
    while True:
        threading.Thread(target=lambda: __import__("time").sleep(60), daemon=True).start(); made += 1
print(attempt(bomb), made < 64)
"""
    shown = output(program, kind)
    assert "done" not in shown and "True" in shown, shown
    lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [line for line in lines if marker.encode() in line]


def test_threads_work(kind):
    assert (
        output(
            "import threading\nt = threading.Thread(target=print, args=(1,))\nt.start(); t.join()",
            kind,
        )
        == "1\n"
    )


@pytest.mark.slow
def test_nothing_outlives_a_program(kind, short_wall):
    """Of all processes that a program which sleeps, ignores signals and has threads ran as, none is left."""
    program = """
import os, signal, threading, time
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
try: os.setsid()
except OSError: pass
[threading.Thread(target=time.sleep, args=(600,)).start() for _ in range(5)]
time.sleep(600)
"""
    before = descendants(os.getpid())  # workers that other tests keep warm
    ran = threading.Thread(target=verdict, args=(program, kind, STDIO))
    ran.start()
    time.sleep(1.0)
    seen = descendants(os.getpid()) - before
    ran.join()
    assert len(seen) >= 2  # the sandbox and the program
    deadline = time.monotonic() + 5
    while (left := seen & processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def processes() -> dict[int, int]:
    """Every process and its parent; those in a sandbox are seen from outside."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return found


def descendants(pid: int) -> set[int]:
    parents = processes()
    found, size = {pid}, 0
    while size < len(found):
        size = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}


def test_the_user_inside_has_no_rights(kind):
    program = """
import ctypes, os
libc = ctypes.CDLL(None)
print(os.getuid() != 0, os.geteuid() != 0, libc.prctl(39, 0, 0, 0, 0))
print([libc.unshare(0x10000000), libc.mount(b"none", b"/scratch", b"tmpfs", 0, b""), libc.chroot(b"/"), libc.setns(0, 0)])
try: os.setuid(0); print("root")
except OSError: print("no")
"""
    assert output(program, kind) == "True True 1\n[-1, -1, -1, -1]\nno\n"


def test_the_input_can_only_be_read(kind):
    assert output("import os\ntry: os.write(0, b'x')\nexcept OSError: print('no')", kind) == "no\n"
