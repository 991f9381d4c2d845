"""The command line: `potstill VERB …`. A verb's module, and all it needs, is imported when that verb is chosen."""

from __future__ import annotations

import errno
import keyword
import os
import shlex
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from potstill import __version__
from potstill.errors import (
    BudgetSpent,
    ConfigError,
    InputError,
    PotstillError,
    PotstillWarning,
)

VERBS = {
    "quickstart": "the built-in comparison: ORION beside the untrained student, teacher SFT and self-training",
    "run": "run a method or a recipe: collect rows, train the student, measure it, report",
    "plan": "what a run will ask and cost, before anything is paid: calls, tokens, money, disk, memory, steps",
    "tune-prompts": "which of a method's prompts a student follows best: tries each on the same training problems",
    "models": "small models that can be had with one command: what there is, and fetch one",
    "prices": "the prices of remote models, with date and source",
    "methods": "the methods by family; of one what it asks and shows, its roles, parameters, controls and paper",
    "check": "check that a method, of the package or your own, can be stopped, resumed and traced",
    "verify": "check gold answers, or judge recorded answers, with the verifiers",
    "judge": "have a model judge recorded answers by a rubric, or compare them in pairs, with its bias",
    "train": "train a student on rows of your own, without a method",
    "cache-teacher": "store a teacher's top logits for rows, to distil from them without the teacher",
    "evaluate": "measure a model on problems",
    "compare": "paired differences between evaluations, with intervals",
    "import": "recorded answers in the usual layouts become traces, judged if you like",
    "curate": "one clean set of rows of files of any size: judged, filtered, without near-duplicates and test problems",
    "export": "a run's rows for other trainers: TRL, ShareGPT, Alpaca, messages, preference pairs; with a dataset card",
    "cache": "a run's store: what is in it, whether it is sound, what nobody needs; export and import",
    "study": "prepared comparisons: data, trainings, measurements, and a page with table, figure and fingerprint",
    "world": "the built-in world: its problems, its checkpoints, and the script that trains them",
    "report": "write a run's report.html again",
    "score": "how likely a student finds each token of its rows, before its training and after, for `potstill view`",
    "serve": "serve a checkpoint behind OpenAI's protocol, log-probabilities of prompts included",
    "view": "look at runs in the browser: arms and intervals, every trace, where each row came from, live",
    "show": "one trace of a run with all that it came from: what was asked, what was written, what became of it",
}
HELPERS = ("show",)  # modules of this package that have a verb's name and are none
RESUMABLE = (
    "quickstart",
    "run",
    "tune-prompts",
    "train",
    "cache-teacher",
    "score",
    "study",
    "world",
    "curate",
)
STOPPED = 130  # exit code: 128 + SIGINT, as shells count
OUTPUT_CLOSED = 141  # exit code: 128 + SIGPIPE
HELP_WIDTH = 120  # columns of the list of commands where nobody says how wide the terminal is
ERROR_DELAY = 10.0  # seconds that the first of several processes has to report an error alone


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 2 an error that the user can mend, 130 a stop by Ctrl-C.

    With --json an error is a JSON document on standard output. An error that is nobody's fault but ours keeps its
    traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        code = _run_command(words)
        sys.stdout.flush()
        return code
    except PotstillError as error:
        if isinstance(error, BudgetSpent) and error.larger:
            command = _with_larger_budget(words, error.larger)
            error.add_note(f"what was paid for is kept and not paid again; to go on: {command}")
        return _report_error(error, as_json=as_json)
    except KeyboardInterrupt:
        return _report_stop(words, as_json=as_json)
    except BrokenPipeError:
        # Whoever read our output has gone (`potstill methods | head -1`); what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    except OSError as error:
        # Boundary: a path that is a folder, may not be written, lies on a full disk. Without a path it is our bug.
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _report_error(_unusable_path(error), as_json=as_json)


def _run_command(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help_text())
        return 0
    if words[0] == "--version":
        print(f"potstill {__version__}")
        return 0
    # Only now: it loads what the list of commands does without.
    from potstill.cli import show

    show.begin_command(words)
    verb = words[0]
    if verb not in VERBS:
        raise ConfigError(
            f"no command called {verb!r}", available=VERBS, wanted=verb, fix="potstill --help"
        )
    module = module_of(verb)
    from potstill.cli.options import Parser

    parser = Parser(prog=f"potstill {verb}", description=module.__doc__)
    module.add_arguments(parser)
    try:
        args = parser.parse_args(words[1:])
    except SystemExit as end:  # --help
        return int(end.code or 0)
    with printing_warnings():
        module.execute(args)
    return 0


@contextmanager
def printing_warnings() -> Iterator[None]:
    """Print each warning of ours once, as a line on stderr; those of libraries go their own way."""
    printed: set[str] = set()
    with warnings.catch_warnings():
        show_other_warning = warnings.showwarning

        def show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if not issubclass(category, PotstillWarning):
                show_other_warning(message, category, *place)
            elif str(message) not in printed:
                printed.add(str(message))
                print(f"potstill: warning: {message}", file=sys.stderr)

        warnings.filterwarnings("always", category=PotstillWarning)
        warnings.showwarning = show_warning  # type: ignore[assignment]
        yield


def module_of(verb: str) -> ModuleType:
    """A verb's module: hyphens become underscores; a name that is taken ends in an underscore."""
    name = verb.replace("-", "_")
    if keyword.iskeyword(name) or name in HELPERS:
        name += "_"
    return import_module(f"potstill.cli.{name}")


def _help_text() -> str:
    from potstill.cli.width import terminal_width

    name_width = max(map(len, VERBS)) + 2
    width = terminal_width(sys.stdout) or HELP_WIDTH
    verbs: list[str] = []
    for name, summary in VERBS.items():
        line = f"  {name:<{name_width}}{summary}"
        verbs += textwrap.wrap(line, width, subsequent_indent=" " * (name_width + 2))
    return "\n".join(
        [
            "usage: potstill COMMAND …",
            "",
            *textwrap.wrap(
                "Teaches small language models to reason, from a teacher's reasoning and the student's own mistakes.",
                width,
            ),
            "",
            "commands:",
            *verbs,
            "",
            *textwrap.wrap(
                "potstill COMMAND --help tells more, with an example. Start with: potstill quickstart",
                width,
            ),
        ]
    )


def _report_error(error: PotstillError, *, as_json: bool) -> int:
    from potstill.cli import show
    from potstill.escape import terminal
    from potstill.secrets import redact_secrets, redact_value

    # Most errors are every process's; a machine's launcher ends the others once its first has reported.
    if int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0"))):
        time.sleep(ERROR_DELAY)
    # What a user or a server wrote may hold a key, wherever the error comes from.
    if as_json and not show.has_printed_json():
        show.print_json({"error": redact_value(error.to_json())})
        return 2
    message = redact_secrets(terminal(error.render()))
    lines = [f"potstill: {message}", *getattr(error, "__notes__", ())]
    for line in show.fit_width("\n".join(lines), sys.stderr):
        print(line, file=sys.stderr)
    return 2


def _with_larger_budget(words: list[str], budget: str) -> str:
    """The same command with a larger limit in the place of the one that was reached; it wins over the recipe's."""
    role, _, _ = budget.rpartition("=")
    command = ["potstill"]
    for word, previous in zip(words, ["", *words], strict=False):
        is_limit = previous == "--budget"
        if is_limit and word.rpartition("=")[0] == role and _unit(word) == _unit(budget):
            command.pop()  # the flag in front of the limit that was reached
        else:
            command.append(word)
    return shlex.join([*command, "--budget", budget])


def _unit(budget: str) -> str:
    return "tokens" if "tok" in budget else "money"


def _unusable_path(error: OSError) -> InputError:
    where = error.filename2 or error.filename or "the disk"
    return InputError(
        f"{where} can't be read or written: {error.strerror or error}",
        expected="a path of the right kind (file or folder) that you may use, on a disk with space left",
        fix="check the path and its rights, or give another; the same command then goes on from what is stored",
    )


def _launcher(environment: Mapping[str, str]) -> list[str]:
    """The words before the command: torchrun with as many machines and processes as this process's launcher started."""
    process_count = int(environment.get("WORLD_SIZE", "1"))
    if process_count == 1:
        return ["potstill"]
    processes_here = int(environment.get("LOCAL_WORLD_SIZE", process_count))
    words = ["torchrun"]
    if processes_here < process_count:
        words += ["--nnodes", str(process_count // processes_here)]
        words += ["--node-rank", environment.get("GROUP_RANK", "0")]
        port = environment.get("MASTER_PORT", "29500")
        words += ["--rdzv-endpoint", f"{environment.get('MASTER_ADDR', 'localhost')}:{port}"]
    return [*words, "--nproc-per-node", str(processes_here), "-m", "potstill"]


def _report_stop(words: list[str], *, as_json: bool) -> int:
    from potstill.cli import show

    # Of several processes only the first reports.
    if int(os.environ.get("RANK", "0")):
        return STOPPED
    launcher = _launcher(os.environ)
    verb = words[0] if words else ""
    command = ""
    if verb in RESUMABLE or (verb == "evaluate" and "--out" in words):
        command = shlex.join([*launcher, *words])
    if as_json and not show.has_printed_json():
        show.print_json({"stopped": True, "resume": command})
        return STOPPED
    message = "stopped"
    if command:
        message += f"; the run can be taken up again with the same command: {command}"
    print(f"\n{message}", file=sys.stderr)
    return STOPPED
