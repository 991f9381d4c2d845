"""The operators: each takes traces and returns traces. A method is a composition of them."""

from potstill.traces.answers import (
    agreement,
    answer_classes,
    answer_entropy,
    equal,
    read,
    read_answers,
    same_answer,
    vote,
)
from potstill.traces.concurrency import each
from potstill.traces.derivation import derive, gold_by_vote
from potstill.traces.editing import edit, segment
from potstill.traces.few_shots import few_shot
from potstill.traces.generation import plain, pose, rewrite, sample
from potstill.traces.keys import (
    checked,
    line,
    ok,
    problem,
    right,
    right_test,
    sound,
    unparsed,
    wrong,
)
from potstill.traces.learning import learn
from potstill.traces.likelihood_scorers import (
    answer_probability,
    gain,
    leave_one_out,
    nll,
    perplexity,
    token_logprobs,
)
from potstill.traces.llm_judge import Preference, bias, grade, prefer
from potstill.traces.metadata import by_metadata, where
from potstill.traces.overlap import check_overlap, decontaminate
from potstill.traces.reading import read_sections, read_yes_no
from potstill.traces.reasoning_steps import count_steps
from potstill.traces.reference_gate import (
    ReferenceGate,
    hide_ends,
    keep_reasoned,
    refuse_hidden_end,
)
from potstill.traces.rounds import until
from potstill.traces.scorers import ask, length, steps
from potstill.traces.scores import score
from potstill.traces.selection import among, best, dedupe, keep, mix, pair, weigh
from potstill.traces.session import (
    Drop,
    Ledger,
    ReportSection,
    Session,
    Share,
    VerdictCache,
    note,
    report,
    using,
)
from potstill.traces.verification import verify

__all__ = [
    "Drop",
    "Ledger",
    "Preference",
    "ReferenceGate",
    "ReportSection",
    "Session",
    "Share",
    "VerdictCache",
    "agreement",
    "among",
    "answer_classes",
    "answer_entropy",
    "answer_probability",
    "ask",
    "best",
    "bias",
    "by_metadata",
    "check_overlap",
    "checked",
    "count_steps",
    "decontaminate",
    "dedupe",
    "derive",
    "each",
    "edit",
    "equal",
    "few_shot",
    "gain",
    "gold_by_vote",
    "grade",
    "hide_ends",
    "keep",
    "keep_reasoned",
    "learn",
    "leave_one_out",
    "length",
    "line",
    "mix",
    "nll",
    "note",
    "ok",
    "pair",
    "perplexity",
    "plain",
    "pose",
    "prefer",
    "problem",
    "read",
    "read_answers",
    "read_sections",
    "read_yes_no",
    "refuse_hidden_end",
    "report",
    "rewrite",
    "right",
    "right_test",
    "same_answer",
    "sample",
    "score",
    "segment",
    "sound",
    "steps",
    "token_logprobs",
    "unparsed",
    "until",
    "using",
    "verify",
    "vote",
    "weigh",
    "where",
    "wrong",
]
