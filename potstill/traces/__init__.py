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
from potstill.traces.few_shots import few_shot, show_as_turns
from potstill.traces.filters import (
    has_answer,
    has_box,
    has_length,
    is_finished,
    is_shorter,
    mentions_none,
    repeats_little,
)
from potstill.traces.generation import plain, pose, rewrite, sample, solve_posed
from potstill.traces.keys import (
    by_chance,
    chance,
    chance_fraction,
    checked,
    line,
    ok,
    problem,
    right,
    right_test,
    sound,
    unparsed,
    words,
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
from potstill.traces.pairs import pair_all
from potstill.traces.prompts import fill_template, prompt_text, show_one
from potstill.traces.reading import count_reading, read_score, read_sections, read_word, read_yes_no
from potstill.traces.reasoning_steps import count_steps
from potstill.traces.reference_gate import (
    ReferenceGate,
    hide_ends,
    keep_reasoned,
    refuse_hidden_end,
)
from potstill.traces.rounds import Retried, retry, until
from potstill.traces.scorers import ask, constant, length, look_up, of_each, steps
from potstill.traces.scores import Score, score
from potstill.traces.selection import among, best, dedupe, keep, mix, pair, split_by, weigh
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
from potstill.traces.shares import report_shares, share_of
from potstill.traces.verification import verify

__all__ = [
    "Drop",
    "Ledger",
    "Preference",
    "ReferenceGate",
    "ReportSection",
    "Retried",
    "Score",
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
    "by_chance",
    "by_metadata",
    "chance",
    "chance_fraction",
    "check_overlap",
    "checked",
    "constant",
    "count_reading",
    "count_steps",
    "decontaminate",
    "dedupe",
    "derive",
    "each",
    "edit",
    "equal",
    "few_shot",
    "fill_template",
    "gain",
    "gold_by_vote",
    "grade",
    "has_answer",
    "has_box",
    "has_length",
    "hide_ends",
    "is_finished",
    "is_shorter",
    "keep",
    "keep_reasoned",
    "learn",
    "leave_one_out",
    "length",
    "line",
    "look_up",
    "mentions_none",
    "mix",
    "nll",
    "note",
    "of_each",
    "ok",
    "pair",
    "pair_all",
    "perplexity",
    "plain",
    "pose",
    "prefer",
    "problem",
    "prompt_text",
    "read",
    "read_answers",
    "read_score",
    "read_sections",
    "read_word",
    "read_yes_no",
    "refuse_hidden_end",
    "repeats_little",
    "report",
    "report_shares",
    "retry",
    "rewrite",
    "right",
    "right_test",
    "same_answer",
    "sample",
    "score",
    "segment",
    "share_of",
    "show_as_turns",
    "show_one",
    "solve_posed",
    "sound",
    "split_by",
    "steps",
    "token_logprobs",
    "unparsed",
    "until",
    "using",
    "verify",
    "vote",
    "weigh",
    "where",
    "words",
    "wrong",
]
