"""Potstill teaches small language models to reason, from a teacher's reasoning and the student's own mistakes.

`import potstill as ps` loads nothing else; what `potstill.api` offers is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from potstill.api import *

# What `potstill.api` defines. It is listed here so that `from potstill import verifiers` does not load the API.
__all__ = [
    "BudgetSpent",
    "Comparison",
    "ConfigError",
    "Evaluation",
    "InputError",
    "Message",
    "Model",
    "ModelError",
    "Passage",
    "PotstillError",
    "Problem",
    "ReferenceGate",
    "Run",
    "Sampling",
    "Scored",
    "Session",
    "Span",
    "Stage",
    "StageError",
    "StoreError",
    "Trace",
    "TraceFile",
    "TraceList",
    "Trainable",
    "Verdict",
    "agreement",
    "among",
    "answer_classes",
    "answer_entropy",
    "answer_probability",
    "ask",
    "best",
    "blank",
    "by_metadata",
    "compare",
    "curate",
    "decontaminate",
    "dedupe",
    "dedupe_near",
    "derive",
    "describe_methods",
    "describe_objectives",
    "drive",
    "each",
    "edit",
    "equal",
    "evaluate",
    "few_shot",
    "from_dataset",
    "gain",
    "gold_by_vote",
    "grade",
    "instruments",
    "judge",
    "keep",
    "keep_reasoned",
    "learn",
    "leave_one_out",
    "line",
    "load_model",
    "load_problems",
    "load_rows",
    "mix",
    "nll",
    "ok",
    "open_folder",
    "open_run",
    "pair",
    "perplexity",
    "pose",
    "prefer",
    "problem",
    "read",
    "read_answers",
    "read_sections",
    "read_yes_no",
    "reading_thoughts",
    "rewrite",
    "right",
    "run",
    "same_answer",
    "sample",
    "score",
    "segment",
    "sound",
    "to_dataset",
    "token_logprobs",
    "train",
    "unparsed",
    "until",
    "verify",
    "vote",
    "weigh",
    "where",
    "wrong",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'potstill' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("potstill.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
