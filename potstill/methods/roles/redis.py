"""ReDis: a student learns to propose the rule behind demonstrations, and to apply a rule; a rule is judged by them.

The released code was read: `generate_data_ir.py`, `construct_pair.py`, `proposed.py` and its two configurations.

| constant | value | source |
|---|---|---|
| rules a problem, temperature | 50, 1.0 | released code |
| each applied to each demonstration, temperature | once, 0.7 | released code |
| a pair | a rule with more than `gap` demonstrations over the other's | released code, a strict comparison |
| gap | 1 (1D-ARC), 2 (ACRE), 3 (List Functions), 4 (MiniSCAN) | released code |
| supervised: learning rate, epochs | 1e-4, 4 | released code |
| ORPO: weight, learning rate, epochs | 0.1, 5e-6, 5 | released code |
| warm-up of both | 0.1, then a cosine | released code |
| adapters (LoRA), batch of 8, texts of 2,048 tokens | | released code; left to the recipe |
| test time: rules, temperature, temperature of applying | 10, 0.9, 0.7 | released code |
| longest reply | 512 tokens | released code, of its local models; of the teacher inferred |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, Literal

from potstill.errors import StageError
from potstill.methods.answer_rows import gold_answer_alone
from potstill.methods.replies import reply_alone
from potstill.methods.roles._demonstrations import (
    examples_of,
    has_demonstrations,
    is_same_output,
    read_demonstrations,
)
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    among,
    dedupe,
    edit,
    is_finished,
    keep,
    line,
    look_up,
    mix,
    pair_all,
    plain,
    pose,
    problem,
    report_shares,
    sample,
    score,
    words,
)
from potstill.traces.keys import group_traces

PROPOSE = """\
Each input below is turned into its output by one rule. Find the rule, and write nothing else.

{demonstrations}"""
APPLY = """\
Apply the rule to the input. Write the output, and nothing else.

Rule: {rule}

Input: {input}"""

REPRODUCED = "reproduced demonstrations"
APPLY_TEMPERATURE, TEST_TEMPERATURE = 0.7, 0.9
SFT: dict[str, Any] = {"num_train_epochs": 4, "learning_rate": 1e-4, "warmup_steps": 0.1}
ORPO: dict[str, Any] = {
    "num_train_epochs": 5,
    "learning_rate": 5e-6,
    "warmup_steps": 0.1,
    "lam": 0.1,
}


def redis(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    *,
    arm: Literal["redis", "no-alignment", "answers", "untrained"] = "redis",
    n: int = 50,
    gap: int = 3,
    hypotheses: int = 10,
    temperature: float = 1.0,
    max_new_tokens: int = 512,
) -> Generator[Stage, Trainable, Any]:
    """ReDis: improving in-context learning with reasoning distillation (Sadeq et al., arXiv:2504.10647).

    A rule r of demonstrations (x_i, y_i) scores s(r) = #{i: the teacher makes y_i of r and x_i}. r+ is preferred to r-
    where s(r+) > s(r-) + gap. At test time the rule that reproduces most of the demonstrations is applied. A question
    shows demonstrations as lines `Input: …` and `Output: …`, and then an input without an output.

    Learns from: the teacher's rules, what it made of inputs by the preferred ones, and pairs of better and worse rules.
    Needs: teacher (proposes rules and applies them), student (is trained, and does both at test time).
    Controls: arm=no-alignment (without the pairs), answers (the gold answers under the questions: imitation without
        rules), untrained (the same search for a rule, by the student as it is).
    Departure: the prompts are ours, one for all tasks. A rule counts once in its problem; the code drops one that an
        earlier problem had. The code finds the applications of a preferred rule by a search in prompts, where one rule
        may be part of another. Of equally good rules the first is applied. A question without demonstrations is
        answered as it is.
    Paper: 97
    Cite: Nafis Sadeq, Xin Xu, Zhouhang Xie, Julian McAuley, Byungkyu Kang, Prarit Lamba, Xiang Gao: Improving
        In-Context Learning with Reasoning Distillation (2025).

    Args:
        teacher: proposes, and applies each rule to each demonstration.
        student: learns both.
        arm: the method or one of its controls.
        n: rules that the teacher proposes a problem.
        gap: demonstrations that the better rule of a pair reproduces more, and then one.
        hypotheses: rules that the student proposes for one answer at test time.
        temperature: of the teacher's rules.
        max_new_tokens: longest rule, and longest output.
    """
    if arm == "untrained":
        return partial(solve_by_rules, student, hypotheses)
    if arm == "answers":
        student = yield Stage(student, edit(gold_answer_alone, problems), "sft", **SFT)
        return partial(plain, student)

    # The teacher's rules, each wording once a problem.
    inductive = keep(has_demonstrations, problems)
    if not inductive:
        raise no_demonstrations(len(problems))
    drawn: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    replies = sample(teacher, pose(show_examples, inductive), n=n, temperature=temperature, **drawn)
    rules = dedupe(words, keep(says_something, edit(reply_alone, keep(is_finished, replies))))

    # What each rule makes of each demonstration's input is its score.
    applications, hits = apply_rules(teacher, rules, **drawn)
    rules = score(REPRODUCED, look_up(hits, by=line), rules)
    pairs = pair_all(rules, rules, where=partial(is_better, gap))
    report_rules(rules, applications, hits)
    if not pairs:
        raise no_pairs(gap, max(hits.values(), default=0))

    # Every rule is learnt, and the applications of those that are preferred to another one, right or wrong.
    preferred = keep(is_finished, among(pairs, applications, by=line))
    student = yield Stage(student, mix(rules, preferred), "sft", name="sft", **SFT)
    if arm == "redis":
        student = yield Stage(student, pairs, "orpo", name="alignment", **ORPO)
    return partial(solve_by_rules, student, hypotheses)


def apply_rules(
    model: Model, rules: Sequence[Trace], **sampling: Any
) -> tuple[list[Trace], Counter[str]]:
    """What a model makes of each demonstration's input by each rule, and by line how many outputs a rule reproduces."""
    applications: list[Trace] = []
    hits = Counter({rule.line: 0 for rule in rules})
    longest = max((len(examples_of(rule)) for rule in rules), default=0)
    for place in range(longest):
        applicable = [rule for rule in rules if place < len(examples_of(rule))]
        # The learner of an application sees the rule and one input, and none of the demonstrations.
        posed = pose(partial(show_application, place), applicable)
        written = sample(model, posed, temperature=APPLY_TEMPERATURE, **sampling)
        outputs = edit(reply_alone, written)
        for output in outputs:
            wanted = examples_of(output)[place].output
            hits[output.line] += not output.error and is_same_output(output.text, wanted)
        applications += outputs
    return applications, hits


def solve_by_rules(
    model: Model, hypotheses: int, problems: Sequence[Trace], *, n: int = 1, **sampling: Any
) -> list[Trace]:
    """Of so many rules for each answer the one that reproduces most demonstrations, applied to the input asked for.

    The temperatures are the paper's, whatever the measurement's are.
    """
    # What shows no demonstrations has no rule to find.
    inductive: list[Trace] = []
    others: list[Trace] = []
    for trace in problems:
        (inductive if examples_of(trace) else others).append(trace)
    limits = {name: value for name, value in sampling.items() if name != "temperature"}
    posed = pose(show_examples, inductive)
    written = sample(model, posed, n=n * hypotheses, temperature=TEST_TEMPERATURE, **limits)
    rules = edit(reply_alone, written)
    _, hits = apply_rules(model, rules, **limits)

    # The rules of a problem, so many for each of its answers.
    chosen: list[Trace] = []
    for group in group_traces(rules, problem).values():
        for start in range(0, len(group), hypotheses):
            candidates = group[start : start + hypotheses]
            # A failed proposal is chosen only where all of them failed.
            healthy = [rule for rule in candidates if not rule.error] or candidates
            chosen.append(max(healthy, key=lambda rule: hits[rule.line]))
    last_inputs = pose(partial(show_application, -1), chosen)
    answers = edit(reply_alone, sample(model, last_inputs, temperature=APPLY_TEMPERATURE, **limits))
    return answers + plain(model, others, n=n, **sampling)


def says_something(trace: Trace) -> tuple[bool, str]:
    """There is a rule behind the thought."""
    return bool(trace.text.strip()), "no rule in it"


def show_examples(trace: Any) -> str:
    """The prompt for a rule: the demonstrations, without the input that is asked for."""
    lines: list[str] = []
    for example in examples_of(trace):
        lines.append(f"Input: {example.input}\nOutput: {example.output}")
    return PROPOSE.format(demonstrations="\n\n".join(lines))


def show_application(place: int, trace: Any) -> str:
    """The prompt to apply a rule: to a demonstration's input by its place, or to the one that is asked for (-1)."""
    if place >= 0:
        input_text = examples_of(trace)[place].input
    else:
        input_text = read_demonstrations(trace.question)[-1].input
    return APPLY.format(rule=trace.text.strip(), input=input_text)


def is_better(gap: int, good: Trace, bad: Trace) -> bool:
    """Whether a rule reproduces more than `gap` demonstrations over what the other does."""
    return float(good.scores[REPRODUCED] or 0) > float(bad.scores[REPRODUCED] or 0) + gap


def no_demonstrations(count: int) -> StageError:
    """The error where no question shows inputs and outputs."""
    return StageError(
        f"redis learns rules of demonstrations, and none of {count} problems has any",
        expected="questions with lines 'Input: …' and 'Output: …', and an input without an output at their end",
        fix="--problems 'gym:list_functions?size=100'",
    )


def no_pairs(gap: int, most: int) -> StageError:
    """The error where no rule is so much better than another one of its problem."""
    return StageError(
        f"redis learns from pairs, and no rule reproduces more than {gap} demonstrations over another one's "
        f"(the best reproduces {most})",
        expected="two rules of one problem so far apart",
        fix="--set gap=0, more rules (--set n=100), or a teacher that applies rules better, in another --out",
    )


def report_rules(rules: Sequence[Trace], applications: Sequence[Trace], hits: Counter[str]) -> None:
    """Say how many demonstrations the rules reproduce, and how many rules reproduce all of theirs."""
    complete = sum(hits[rule.line] == len(examples_of(rule)) for rule in rules)
    shares = [
        Share("outputs that a rule reproduced", sum(hits.values()), len(applications)),
        Share("rules that reproduced all demonstrations", complete, len(rules)),
    ]
    report_shares("Rules", shares, hint="A rule is judged by what the teacher makes of its inputs.")
