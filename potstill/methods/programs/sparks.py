"""Sparks of tabular reasoning: gold queries are explained clause by clause and learnt, then the student's are rewarded.

| constant | value | source |
|---|---|---|
| an explained query | thought, then the gold query in a block | released code, `SFT.py` |
| rewards | execution, letters, clauses, a grade | reference; of the code the last three and a count of changes |
| their weights | 1 each | inferred; of the code 0.3 for letters, and 0.3 and 0.4 for two that a model gives |
| rewarded: texts a problem, rate, epochs | 6, 1e-6 cosine, 1 | released code; the last two are left to the recipe |
| longest text | 1,536 tokens | released code, 2,048 less 512 of the prompt |
| temperature, weight of the divergence | 1.0, 0.04 | inferred: the library's defaults of that time |
| supervised: rate, epochs, batch | 2e-4 linear, 1, 4; LoRA 32 on 4-bit weights | released code; left to the recipe |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from potstill.errors import StageError
from potstill.methods.replies import reply_of
from potstill.methods.rollouts import Rollouts
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    edit,
    is_finished,
    keep,
    mentions_none,
    report_shares,
    rewrite,
    right,
    verify,
)

# The wording is ours; the paper's prompt is not released.
EXPLAIN = """\
Explain how one gets from the question to the query: one step for each clause of the query, a line each, in the order \
FROM, JOIN, WHERE, GROUP BY, HAVING, SELECT, ORDER BY, LIMIT. Begin each line with the name of its clause and a colon. \
Say which tables and columns the clause uses, what it does to the rows, and why the question asks for that. Write as \
somebody who is working the query out and has not seen it, and write nothing but the steps.

{schema}

Question: {question}

Query:
{text}"""
CHAIN = "<think>\n{reasoning}\n</think>\n```sql\n{query}\n```"
QUERY = "```sql\n{query}\n```"

_BEGINS_AS_QUERY = re.compile(r"\s*\(?\s*(?:SELECT|WITH)\b", re.IGNORECASE)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_CLAUSE = re.compile(
    r"\b(FROM|JOIN|WHERE|GROUP\s+BY|HAVING|SELECT|ORDER\s+BY|LIMIT)\b", re.IGNORECASE
)
_STEP = re.compile(
    r"^[\s*#\d.)-]{0,8}(FROM|(?:\w+ )?JOIN|WHERE|GROUP BY|HAVING|SELECT|ORDER BY|LIMIT)\b[^:\n]{0,40}:",
    re.IGNORECASE | re.MULTILINE,
)
# Words that only somebody who was shown the query has.
_SHOWN = re.compile(r"\b(?:given|provided|gold|reference|above) (?:SQL )?query\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """What the parts of the reward weigh.

    Args:
        execution: the query returns the gold rows.
        letters: how alike its letters and the gold query's are.
        clauses: mean F1 of its clauses and the gold query's.
    """

    execution: float = 1.0
    letters: float = 1.0
    clauses: float = 1.0

    def by_name(self) -> dict[str, float]:
        """The parts by their names as rewards; one of no weight is left out."""
        weights = {
            "verifier": self.execution,
            "query_text": self.letters,
            "query_clauses": self.clauses,
        }
        return {name: weight for name, weight in weights.items() if weight}


def sparks(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["sparks", "sft", "rl", "no-cot"] = "sparks",
    weights: RewardWeights = RewardWeights(),
    temperature: float = 1.0,
    max_new_tokens: int = 1024,
    rollouts: Rollouts = Rollouts(num_generations=6, max_new_tokens=1536, beta=0.04),
) -> Generator[Stage, Trainable, None]:
    """Sparks of tabular reasoning via Text2SQL reinforcement learning (Stoisser et al., arXiv:2505.00016).

    Rows: (tables, x) -> why each clause, gold query; then GRPO on the student's own, rewarded by execution, by letters
    and clause by clause.

    Learns from: gold queries behind a teacher's explanation of each clause, then its own queries by reward.
    Needs: teacher (explains queries that it is shown), student (is trained, then writes and is trained).
    Controls: arm=sft (no rewards), rl (rewards from the beginning), no-cot (queries without explanation, then rewards),
        weights.letters, weights.clauses (0 leaves a part of the reward out).
    Departure: the abstract and the released code were read, not the paper's text. The prompt of the explanations is
        ours; one that leaves a clause out, or has one that its query lacks, is no row. Both trainings see the same
        problems, in the paper two data sets. Clauses are read outside of brackets, where the code looks for words
        anywhere. The learner is asked as problems of the kind table are, which is not the code's wording.
    Partial: the part of the reward that another model grades on an ordinal scale, and that which counts the changes to
        the gold query by a model.
    Paper: 20
    Cite: Josefa Lia Stoisser, Marc Boubnovski Martell, Julien Fauqueur: Sparks of Tabular Reasoning via Text2SQL
        Reinforcement Learning (2025).

    Args:
        teacher: explains gold queries.
        arm: the method or one of its controls.
        weights: of the parts of the reward.
        temperature: of the teacher.
        max_new_tokens: longest explanation; one that is cut there is no row.
        rollouts: how the student writes while it is rewarded.
    """
    answerable = keep(has_query, problems)
    if not answerable:
        raise StageError(
            f"sparks learns gold queries, and none of {len(problems)} problems has one",
            expected="problems of the kind table, with a query as their answer",
            fix="--kind table, --map answer=COLUMN",
        )
    keywords = rollouts.keywords(reward=weights.by_name())

    # Gold queries that run, behind the reason for each of their clauses.
    if arm != "rl":
        queries = edit(show_query, answerable)
        rows = edit(write_query, queries)
        if arm != "no-cot":
            replies = rewrite(
                teacher,
                queries,
                prompt=EXPLAIN,
                guard=False,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
            )
            explained = edit(take_reply, keep(is_finished, replies))
            covering = keep(explains_clauses, keep(partial(mentions_none, _SHOWN), explained))
            report_explained(queries, explained, covering)
            rows = edit(write_chain, covering)
        student = yield Stage(student, keep(right, verify(rows)), "sft", name="queries")
    if arm == "sft":
        return

    # The student's own queries, by what they return and by how alike the gold query they are.
    yield Stage(student, answerable, "grpo", name="rewards", **keywords)


def gold_query(problem: Any) -> str:
    """The problem's answer where it is a query, else its solution where that is one, or ""."""
    # A gold result may come with the query that made it.
    for text in (problem.answer, problem.solution):
        if text and _BEGINS_AS_QUERY.match(text):
            return str(text).strip()
    return ""


def has_query(trace: Trace) -> tuple[bool, str]:
    """The problem asks for a query and has a gold one."""
    if trace.problem.kind != "table":
        return False, f"a problem of the kind {trace.problem.kind}"
    return bool(gold_query(trace.problem)), "no gold query"


def show_query(trace: Any) -> dict[str, str]:
    """The gold query as the text of a trace."""
    return {"text": gold_query(trace.problem), "finish_reason": "stop"}


def take_reply(trace: Any) -> str | None:
    """An explanation without the thought before it; None where nothing stands behind that."""
    return reply_of(trace.text).strip() or None


def explains_clauses(trace: Trace) -> tuple[bool, str]:
    """It has a step for every clause of its query, and none for a clause that the query lacks."""
    # What stands in quotes is a value, whatever words it has.
    query = _QUOTED.sub("''", gold_query(trace.problem))
    wanted = {_clause_name(clause) for clause in _CLAUSE.findall(query)}
    steps = {_clause_name(clause) for clause in _STEP.findall(trace.text)}
    if wanted - steps:
        return False, f"no step for {', '.join(sorted(wanted - steps))}"
    return steps == wanted, f"the query has no {', '.join(sorted(steps - wanted))}"


def write_chain(trace: Any) -> str:
    """The explanation as a thought, and the gold query behind it."""
    return CHAIN.format(reasoning=trace.text, query=gold_query(trace.problem))


def write_query(trace: Any) -> str:
    """The gold query in a block."""
    return QUERY.format(query=trace.text)


def report_explained(
    queries: Sequence[Trace], explained: Sequence[Trace], covering: Sequence[Trace]
) -> None:
    """Say how many queries came back explained, and how many of these clause by clause."""
    shares = [
        Share("explained", len(explained), len(queries)),
        Share("with a step for each clause", len(covering), len(explained)),
    ]
    report_shares("Gold queries", shares, hint="Of the queries that the teacher was shown.")


def _clause_name(words: str) -> str:
    """A clause's name: "LEFT JOIN" is a JOIN, "group  by" is GROUP BY."""
    name = " ".join(words.upper().split())
    return "JOIN" if name.endswith("JOIN") else name
