"""Solving at test time: M plans by the Reasoner, T programs of each by the Coder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from potstill.methods.roles.explain.prompts import CARRY_OUT, EDITORIAL, STEP_BY_STEP
from potstill.methods.roles.explain.settings import Settings
from potstill.models.model import Model
from potstill.records import Trace
from potstill.traces import edit, rewrite, sample


def solve_by_plans(
    reasoner: Model,
    coder: Model,
    settings: Settings,
    problems: Sequence[Trace],
    *,
    n: int,
    is_trained: bool = True,
    **sampling: Any,
) -> list[Trace]:
    """Answer each problem n times: n / T plans, and T programs of each; the last plan has what is left of n.

    The parent of an answer is its plan, so that an evaluation can tell which answers share one: solve@(M,T).

    Args:
        reasoner: who plans.
        coder: who carries a plan out; it never sees another one.
        settings: T, and how programs are sampled.
        problems: blank traces.
        n: answers a problem.
        is_trained: whether the Reasoner plans when it sees a problem, or must be asked for an editorial.
        sampling: of the plans.
    """
    # Step 5, plan: M plans of each problem; a thought before a plan is nothing that a coder should see.
    plan_count = math.ceil(n / settings.programs)
    prompt = None if is_trained else EDITORIAL
    plans = sample(reasoner, problems, prompt=prompt, n=plan_count, **sampling)
    plans = edit(without_thought, plans)

    # Plans stand problem by problem; the last of each may have fewer programs than the others.
    # Step 6, carry out: T programs of each plan, and of each problem's last plan what is left of n.
    answers: list[Trace] = []
    last_place = plan_count - 1
    full_plans = [plan for place, plan in enumerate(plans) if place % plan_count != last_place]
    last_plans = [plan for place, plan in enumerate(plans) if place % plan_count == last_place]
    answers += carry_out(coder, full_plans, settings.programs, settings)
    answers += carry_out(coder, last_plans, n - last_place * settings.programs, settings)
    return answers


def carry_out(
    coder: Model, plans: Sequence[Trace], programs: int, settings: Settings
) -> list[Trace]:
    """So many programs of each plan; a plan that failed, or says nothing, gives as many failed answers.

    Without a plan the Coder would answer the problem alone, which is another arm.
    """
    healthy_plans = [plan for plan in plans if not plan.error and plan.text.strip()]
    answers = rewrite(
        coder,
        healthy_plans,
        prompt=CARRY_OUT,
        n=programs,
        guard=False,
        **dict(settings.coder_sampling),
    )
    # An evaluation counts answers: what failed stays in the denominator, under its own plan.
    for plan in plans:
        if plan.error or not plan.text.strip():
            error = plan.error or "empty: the plan says nothing behind its thought"
            failed_answer = dataclasses.replace(plan, parents=(plan.id,), error=error)
            answers += [failed_answer] * programs
    return answers


def solve_step_by_step(
    coder: Model, problems: Sequence[Trace], *, n: int, **sampling: Any
) -> list[Trace]:
    """Answer each problem n times by the Coder alone, who is asked to think step by step first."""
    return sample(coder, problems, prompt=STEP_BY_STEP, n=n, **sampling)


def without_thought(trace: Trace) -> str:
    """The plan itself, where a Reasoner thought before it wrote."""
    return trace.reply
