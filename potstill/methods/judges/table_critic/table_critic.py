"""Table-Critic: a judge, a critic, a refiner and a curator mend chains on tables, and a tree of critiques grows.

The released code was read; the paper in its abstract and in descriptions. It answers questions at test time. Here the
mended chains are learnt, and a student can be measured with the crew.

| constant | value | source |
|---|---|---|
| rounds of criticism, most | 5 | paper, released code |
| temperature of all | 0 | paper, released code |
| longest critique, longest refinement | 500, 2,048 tokens | released code; here 2,048 for both |
| critiques that the critic is shown | 5, of the kind of error that the judge finds | released code |
| kinds of error to begin with | 2, with a critique each | paper |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from potstill.methods.judges.table_critic import prompts, tree
from potstill.methods.paragraphs import find_paragraphs, split_paragraphs
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace, split_reasoning
from potstill.traces import (
    Share,
    chance,
    count_reading,
    edit,
    fill_template,
    is_finished,
    keep,
    line,
    look_up,
    plain,
    pose,
    prompt_text,
    report_shares,
    right,
    right_test,
    sample,
    score,
    split_by,
    verify,
)

Arm = Literal["table-critic", "fixed-tree", "no-templates", "unrefined"]


class Crew(NamedTuple):
    """Who mends chains: one model judges, criticises and curates, another one refines; and how each is sampled."""

    critic: Model
    refiner: Model
    rounds: int
    sampling: Mapping[str, Any]
    refiner_sampling: Mapping[str, Any]
    curates: bool = False
    shows_templates: bool = True


class Review(NamedTuple):
    """A critique of a chain: the kind of error, the number of the first wrong step from 0, and what is said of it."""

    route: str
    step: int
    critique: Trace


def table_critic(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    critic: Model | None = None,
    *,
    arm: Arm = "table-critic",
    answer_by: Literal["plain", "refined"] = "plain",
    rounds: int = 5,
    shares: int = 4,
    steps: bool | None = None,
    sampling: Options = options(temperature=0.0, max_new_tokens=2048),
) -> Generator[Stage, Trainable, Any]:
    """Table-Critic: collaborative criticism and refinement in table reasoning (Yu et al., arXiv:2502.11799).

    While the judge calls the answer wrong: a route in the tree of errors, a critique of the first wrong step in the
    light of critiques of that kind, and new steps in its place and behind it. What is then called right grows the tree.

    Learns from: the teacher's right chains, those among them that were mended.
    Needs: teacher (writes the chains and refines them), student (is trained), [critic] (judges, criticises and curates
        in its place).
    Controls: arm=fixed-tree (the tree does not grow: the paper's comparison), no-templates (the critic is shown no
        critiques), unrefined (the chains as they are), answer_by=refined (the student writes and refines, and is
        criticised while it is measured, as in the paper).
    Departure: the tree grows between shares of the problems and between rounds, where the paper has each problem see it
        as it is; a route or a name that can't be read is none. For learning, right means the gold answer, and with
        `steps` right steps too; the crew never sees it. The steps of a chain are its paragraphs, or sentences. Prompts
        and first critiques are ours, and judge, route and curator are shown no worked examples.
    Partial: operations on the table that a program carries out, as Chain-of-Table has them: steps are text.
    Paper: 168
    Cite: Peiying Yu, Guoxin Chen, Jingjing Wang: Table-Critic: A Multi-Agent Framework for Collaborative Criticism and
        Refinement in Table Reasoning (2025).

    Args:
        teacher: reasons, about tables or about anything else.
        student: learns.
        critic: without one the teacher judges its own chains.
        arm: the method or one of its controls.
        answer_by: how the student answers.
        rounds: of criticism at most, of each chain.
        shares: of the problems, each of which sees the tree that those before it have grown.
        steps: also demand that every step of a learnt chain is right; left open, where the verifier judges steps.
        sampling: of chains, critiques and refinements.
    """
    is_right = right_test(problems, steps)
    settings = dict(sampling)
    crew = Crew(critic or teacher, teacher, rounds, sampling=settings, refiner_sampling=settings)
    crew = crew._replace(
        curates=arm == "table-critic", shows_templates=arm in ("table-critic", "fixed-tree")
    )
    chains = verify(keep(is_finished, sample(teacher, problems, **settings)))

    # Share by share, in an order of chance, for what is criticised earlier grows the tree.
    errors: tree.ErrorTree = prompts.FIRST_TREE
    mended = chains
    if arm != "unrefined":
        shuffled = sorted(chains, key=lambda chain: chance("shares", chain.problem.id))
        mended = []
        for number in range(shares):
            refined, errors = refine_chains(crew, errors, shuffled[number::shares])
            mended += refined
        report_mending(chains, mended, errors)
    student = yield Stage(student, keep(is_right, mended), "sft")

    if answer_by == "plain":
        return partial(plain, student)
    # While it is measured the tree stays: what one problem teaches must not help the next.
    solver_crew = crew._replace(refiner=student, curates=False)
    leaves = tuple((route, tuple(templates)) for route, templates in errors.items())
    return partial(solve_by_refinement, solver_crew, leaves)


def solve_by_refinement(
    crew: Crew,
    leaves: Sequence[tuple[str, Sequence[str]]],
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """Solve each problem n times, each chain criticised and refined; the tree stays as it is.

    The student is sampled as the measurement says, the critic as in training.
    """
    chains = sample(crew.refiner, problems, n=n, **sampling)
    whole = [chain for chain in chains if is_finished(chain)[0]]
    broken = [chain for chain in chains if not is_finished(chain)[0]]
    refined, _ = refine_chains(crew._replace(refiner_sampling=sampling), dict(leaves), whole)
    return [*refined, *broken]


def refine_chains(
    crew: Crew, errors: tree.ErrorTree, chains: Sequence[Trace]
) -> tuple[list[Trace], tree.ErrorTree]:
    """The chains as they are when the judge calls them right, or when the rounds are over; and the tree as it grew."""
    # What the judge calls right at once costs one call, and is never touched.
    final, open_chains = judge_chains(crew, chains)
    for _ in range(crew.rounds):
        if not open_chains:
            break
        reviews = review_chains(crew, errors, open_chains)
        reviewed = [chain for chain in open_chains if chain.line in reviews]
        refined = refine_once(crew, reviewed, reviews)
        # What nobody can criticise, or whose refinement failed, stays as it is.
        _, unchanged = split_by(refined, open_chains, by=line)
        final += unchanged
        called_right, still_wrong = judge_chains(crew, refined)
        final += called_right
        if crew.curates:
            # Only a critique that led to a chain that is called right is worth showing to others.
            lines = {chain.line for chain in called_right}
            for chain in sorted(reviewed, key=lambda chain: chance("curator", chain.problem.id)):
                if chain.line in lines:
                    errors = curate(crew, errors, chain, reviews[chain.line])
        open_chains = still_wrong
    return [*final, *open_chains], errors


def judge_chains(crew: Crew, chains: Sequence[Trace]) -> tuple[list[Trace], list[Trace]]:
    """The chains whose answer the judge calls right, and the others; it sees the answer and no step."""
    chains = verify(
        chains
    )  # for the answer that is read in each; nobody is shown whether it is right
    replies = sample(crew.critic, pose(show_answer, chains), **crew.sampling)
    right_lines: set[str] = set()
    for reply in replies:
        if reply.error:
            continue
        verdicts = re.findall(r"\[(Correct|Incorrect)\]", conclusion_of(reply.text))
        count_reading("judge", reply.text, "strict" if len(verdicts) == 1 else "unparsed")
        if verdicts == ["Correct"]:
            right_lines.add(reply.line)
    called_right = [chain for chain in chains if chain.line in right_lines]
    return called_right, [chain for chain in chains if chain.line not in right_lines]


def review_chains(crew: Crew, errors: tree.ErrorTree, chains: Sequence[Trace]) -> dict[str, Review]:
    """A critique of each chain by its line; without those that name no step."""
    # First the kind of error, which decides what critiques the critic is shown.
    routes: dict[str, str] = {}
    if crew.shows_templates:
        ask = partial(show_reasoning, prompts.ROUTE, {"tree": tree.show_tree(errors)})
        for reply in sample(crew.critic, pose(ask, chains), **crew.sampling):
            named = re.findall(r"\(([^()\n]{1,400})\)", conclusion_of(reply.text))
            route = named[-1].strip() if named else tree.RANDOM
            routes[reply.line] = route if route in errors else tree.RANDOM

    # Each chain has examples of its own, chosen by a hash.
    posed: list[Trace] = []
    for chain in chains:
        examples = ""
        if crew.shows_templates:
            templates = tree.choose_templates(errors, routes.get(chain.line, ""), chain.problem.id)
            for number, template in enumerate(templates, 1):
                examples += f"Example {number}:\n\n{template}\n\n\n"
        posed += pose(partial(show_reasoning, prompts.CRITIC, {"examples": examples}), [chain])
    counts = {chain.line: len(find_paragraphs(chain.text)) for chain in chains}
    reviews: dict[str, Review] = {}
    for critique in sample(crew.critic, posed, **crew.sampling):
        step = read_step(critique, counts[critique.line])
        if step is not None:
            route = routes.get(critique.line, tree.RANDOM)
            reviews[critique.line] = Review(route, step, critique)
    return reviews


def refine_once(crew: Crew, chains: Sequence[Trace], reviews: Mapping[str, Review]) -> list[Trace]:
    """The chains with new steps from the first wrong one on; without those whose new steps failed."""
    # The steps before the wrong one stay, as the beginning that the refiner goes on with.
    wrong_steps = {chain_line: review.step for chain_line, review in reviews.items()}
    marked = score("wrong_step", look_up(wrong_steps, by=line), chains)
    beginnings = edit(cut_before_step, marked)
    context = {"chains": marked, "critiques": [review.critique for review in reviews.values()]}
    refined = sample(
        crew.refiner,
        beginnings,
        prompt=show_critique,
        context=context,
        by=line,
        **crew.refiner_sampling,
    )
    return [chain for chain in refined if is_finished(chain)[0]]


def curate(crew: Crew, errors: tree.ErrorTree, chain: Trace, review: Review) -> tree.ErrorTree:
    """The tree with a critique that helped: in a leaf, in one of two that a leaf is split into, or in a new one."""
    if review.route not in (*errors, tree.RANDOM):
        return errors  # another critique of this round has split its leaf
    # A critique is kept with all that it is about, so that it can be read by itself.
    reasoning = show_reasoning(prompts.REASONING, {}, chain)
    template = f"{reasoning}\n\nCritique:\n{review.critique.reply.strip()}"
    if review.route == tree.RANDOM:
        values = {"tree": tree.show_tree(errors), "critique": template}
        ask = partial(show_values, prompts.EXTEND, values)
        [reply] = sample(crew.critic, pose(ask, [chain]), **crew.sampling)
        added = re.findall(r"Addition:\s*\(([^()\n]{1,400})\)", reply.text)
        return tree.extend_tree(errors, added[-1], template) if added else errors
    # A leaf is split where the new critique is of another kind than those in it.
    leaf_critiques = "\n\n".join(tree.choose_templates(errors, review.route, chain.problem.id))
    values = {"route": review.route, "first": leaf_critiques, "second": template}
    ask = partial(show_values, prompts.SPLIT, values)
    [reply] = sample(crew.critic, pose(ask, [chain]), **crew.sampling)
    names = tree.read_names(re.findall(r"<([^<>\n]{1,200})>", conclusion_of(reply.text)))
    if len(names) == 2 and names[0] != names[1]:
        return tree.split_leaf(errors, review.route, names, template)
    return tree.add_template(errors, review.route, template)


# What is shown, and how it is read.


def show_answer(chain: Any) -> str:
    """The judge's prompt."""
    return fill_template(prompts.JUDGE, reasoning_values(chain))


def show_reasoning(template: str, values: Mapping[str, str], chain: Any) -> str:
    """A prompt with a chain's problem, numbered steps and answer, and what else it has."""
    return fill_template(template, {**reasoning_values(chain), **values})


def show_values(template: str, values: Mapping[str, str], chain: Any) -> str:
    """A prompt of the curator, which shows all that it says already."""
    return fill_template(template, values)


def show_critique(beginning: Any, chains: Sequence[Any], critiques: Sequence[Any]) -> str:
    """The refiner's prompt: the steps before the wrong one, that step, and the critique; nothing behind it."""
    [chain], [critique] = chains, critiques
    wrong_step = split_paragraphs(chain.text)[int(chain.scores["wrong_step"])]
    values = {"problem": prompt_text(chain), "text": beginning.text.strip() or "(none)"}
    values |= {"wrong_step": wrong_step, "critique": critique.reply.strip()}
    return fill_template(prompts.REFINE, values)


def reasoning_values(chain: Any) -> dict[str, str]:
    """The problem as the learner sees it, the steps with their numbers, and the answer that a verifier reads."""
    numbered: list[str] = []
    for number, step in enumerate(split_paragraphs(chain.text), 1):
        numbered.append(f"Step {number}: {step}")
    answer = chain.verdict.answer or "none"
    return {"problem": prompt_text(chain), "steps": "\n".join(numbered), "answer": answer}


def conclusion_of(text: str) -> str:
    """What stands behind the last "Conclusion:" of a reply; "" without one."""
    return split_reasoning(text)[1].rpartition("Conclusion:")[2] if "Conclusion:" in text else ""


def read_step(critique: Trace, step_count: int) -> int | None:
    """The number, from 0, of the step that a critique ends with; None where it names none that there is."""
    numbers = re.findall(r"\bStep (\d{1,4})\b", conclusion_of(critique.text), re.IGNORECASE)
    is_read = bool(numbers) and 1 <= int(numbers[-1]) <= step_count
    if critique.error:
        return None
    count_reading("critic", critique.text, "strict" if is_read else "unparsed")
    return int(numbers[-1]) - 1 if is_read else None


def cut_before_step(chain: Any) -> str:
    """The text before the step that is wrong."""
    step = find_paragraphs(chain.text)[int(chain.scores["wrong_step"])]
    return str(chain.text[: step.start])


def report_mending(
    chains: Sequence[Trace], mended: Sequence[Trace], errors: tree.ErrorTree
) -> None:
    """Say how many wrong chains became right, how many right ones became wrong, and how far the tree grew."""
    # The paper's two rates: what criticism corrects, and what it spoils.
    was_right = {chain.line: right(chain) for chain in chains}
    wrong_count = sum(not is_right for is_right in was_right.values())
    corrected = sum(right(chain) and not was_right[chain.line] for chain in mended)
    degraded = sum(was_right[chain.line] and not right(chain) for chain in mended)
    changed = sum(chain.id != chain.line for chain in mended)
    template_count = sum(len(templates) for templates in errors.values())
    shares = (
        Share("chains that were refined", changed, len(mended)),
        Share("wrong chains that became right", corrected, wrong_count),
        Share("right chains that became wrong", degraded, len(chains) - wrong_count),
        Share("kinds of error, of the critiques in the tree", len(errors), template_count),
    )
    hint = "Chains that the judge calls wrong are written anew from their first wrong step on."
    report_shares("Criticism and refinement", shares, hint=hint)
