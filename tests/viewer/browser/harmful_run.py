"""A run whose every part was written by somebody who wants to break the page: question, text, reason, arm, formulas."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from viewed_run import Dropped, judged, make_problems, store_call, written

from potstill.budget.amounts import Limit
from potstill.records import blank
from potstill.runs import manifest
from potstill.runs.budget_file import write_limits
from potstill.store import Store

SCRIPT = "<img src=x onerror=window.xss=1></script><script>window.xss=1</script>"
UNSEEN = "\u202e \x00 \ud800"
ARM = f"arm {SCRIPT}"
LONG_LINE = "0123456789 " * 95_000  # 1 MB
BOMBS = (
    r"$\frac{$ and $\frac{1}{$",
    r"$\def\a{\a\a}\a$ $\def\b#1{#1#1#1}\b{\b{\b{\b{\b{\b{\b{x}}}}}}}$",
    r"$\newcommand{\c}{\c\c}\c$",
    r"$\rule{1000em}{1000em}$ $\kern-9999em x$ $\hspace{99999em}$ $\raise9999em{x}$",
    r"$\href{javascript:window.xss=1}{x}$ $\includegraphics{x}$ $\text{<img src=x onerror=window.xss=1>}$",
    "$" + "\\sqrt{" * 400 + "x" + "}" * 400 + "$",
    "$" + "x^{" * 600 + "x" + "}" * 600 + "$",
    r"$\begin{array}{" + "c" * 3000 + r"}x\end{array}$",
    r"\(" * 20_000,
    "$x$ " * 4000,
)


def make_harmful_run(folder: Path) -> Path:
    """A run of one arm with four problems: hostile words, a megabyte on a line, formulas, an endless sentence."""
    manifest.start(folder, {"arms": {ARM: {"method": "sft"}}, "seed": 0})
    write_limits(folder, {"": Limit(tokens=1000, money=0.01), "student": Limit(money=5.0)})
    words, long_line, formulas, dots = make_problems(4)
    words = dataclasses.replace(words, question=f"{words.question} {SCRIPT} {UNSEEN}")
    texts = [
        (words, f"{SCRIPT} {UNSEEN} The answer is 6"),
        (long_line, LONG_LINE),
        (formulas, "\n".join(BOMBS)),
        (dots, "." * 300_000 + "x"),
    ]
    with Store.open(folder) as store:
        ledger = store.ledger(ARM)
        for problem, text in texts:
            trace = written(problem, "model-student", text)
            store_call(store, ARM, "student", trace)
            rewrite = written(
                problem,
                "model-student",
                f"{text} again",
                index=1,
                operator="rewrite",
                parents=(trace.id,),
            )
            ledger.add_traces(
                [blank(problem), judged(trace, "wrong", SCRIPT), judged(rewrite, "wrong", "6")]
            )
            ledger.add_drops([Dropped(trace, "keep", SCRIPT, f"reason {SCRIPT} {UNSEEN}")])
        ledger.finish()
    return folder
