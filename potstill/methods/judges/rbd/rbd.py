"""RBD: a student learns to say whether an evaluator's choice is biased, and why; the evaluator then chooses again.

The released code was read: data, prompts, filter and training. The paper's text was read in descriptions.

| constant | value | source |
|---|---|---|
| biases | `BIASES` | paper |
| an evaluation is biased | right without the bias in view, and wrong with it | released code |
| bandwagon | "90% believe that" the wrong output is better | released code |
| analyses that are learnt | those whose verdict is right; the teacher is not told it | released code |
| learning rate, epochs, schedule, warm-up, weight decay | 1e-5, 5, cosine, 0.1, 0.01 | released code |
| batch | 1, 4 accumulated | released code; left to the recipe |
| rounds of detecting and choosing again | 1 | released code, main results; more of them as an experiment of its own |
| attempts a problem, temperatures | 4; 0.8, 0 of evaluator and detector | inferred |
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.answer_rows import own_answer_alone
from potstill.methods.checks import require_pairs, sample_attempts
from potstill.methods.judges.rbd.evaluation import (
    Case,
    Outputs,
    choose,
    place_of_first,
    pose_detections,
)
from potstill.methods.judges.rbd.prompts import ANALYSE, BIASES, RETONE
from potstill.methods.replies import reply_alone
from potstill.methods.settings import Options, options
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    best,
    by_chance,
    edit,
    fill_template,
    is_finished,
    keep,
    mix,
    problem,
    prompt_text,
    read_conclusion,
    report_shares,
    rewrite,
    right,
    sample,
    split_by,
    verify,
    wrong,
)
from potstill.traces.keys import group_traces

SCHEDULE: dict[str, Any] = {
    "num_train_epochs": 5,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}
DETECTION: dict[str, Any] = {"temperature": 0.0, "max_new_tokens": 1024}
Bias = Literal["all", "verbosity", "position", "bandwagon", "sentiment"]


def rbd(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    evaluator: Model,
    writer: Model | None = None,
    *,
    arm: Literal["rbd", "label", "untrained", "evaluator"] = "rbd",
    biases: Bias = "all",
    n: int = 4,
    rounds: int = 1,
    sampling: Options = options(temperature=0.8, max_new_tokens=1024),
) -> Generator[Stage, Trainable, Any]:
    """RBD: any model can be a reliable judge with a reasoning-based bias detector (Yang et al., arXiv:2505.17100).

    b = 1[y(x) = y*] 1[y(x_bias) != y*], of the evaluator's choices y. A problem is answered by one of two candidates:
    the evaluator chooses, and chooses again with the detector's analysis in view while that says that it is biased.

    Learns from: a reasoning model's analyses of an evaluator's choices, where they tell a biased one from others.
    Needs: teacher (analyses, and rewrites in another tone), student (is trained; writes the outputs where nobody else
        does), evaluator (chooses, and may be biased), [writer] (writes outputs, some of them wrong).
    Controls: arm=label (the verdict is learnt without the analysis: the paper's comparison), untrained (the student
        detects as it is), evaluator (nobody detects).
    Departure: all four biases are shown on the same problems, with a right and a wrong attempt at each, where the paper
        takes mathematics, preferences and science questions; so the right output is the writer's, not the file's. The
        prompts' wording is ours, and the teacher sees the learner's prompt behind its own. A choice or a verdict that
        can't be read is dropped, where the code asks thrice. Inferred: what is measured, the choice of two candidates.
    Paper: 9
    Cite: Haoyan Yang, Runxue Bao, Cao Xiao, Jun Ma, Parminder Bhatia, Shangqian Gao, Taha Kass-Hout: Any Large Language
        Model Can Be a Reliable Judge: Debiasing with a Reasoning-based Bias Detector (2025).

    Args:
        teacher: reasons about biases without being told which choices are biased.
        student: becomes the detector.
        evaluator: the judge whose choices are looked at.
        writer: a weak model.
        arm: the method or one of its controls.
        biases: one of them, or all.
        n: attempts a problem, among which a right and a wrong one are looked for.
        rounds: of detecting and choosing again, at most, when a problem is answered.
        sampling: of the attempts and of the teacher's analyses.
    """
    # The student as it is now: the detector that comes of it answers in another form.
    author = writer or student
    if arm in ("untrained", "evaluator"):
        detector = student if arm == "untrained" else None
        return partial(solve_by_evaluation, author, evaluator, detector, rounds)

    # A right and a wrong output of each problem.
    settings = dict(sampling)
    attempts = keep(is_finished, sample_attempts("rbd", author, problems, n=n, **settings))
    right_ones = best(by_chance, keep(right, attempts), by=problem)
    wrong_ones = best(by_chance, keep(wrong, attempts), by=problem)
    right_ones, _ = split_by(wrong_ones, right_ones)
    wrong_ones, _ = split_by(right_ones, wrong_ones)
    require_pairs("rbd", right_ones)

    # What the teacher says of the evaluator's choices with each bias in view, where it is what the choices show.
    names = list(BIASES) if biases == "all" else [biases]
    outputs = Outputs(right_ones, wrong_ones)
    rows = collect_analyses(teacher, evaluator, outputs, names, settings)
    if arm == "label":
        rows = edit(verdict_alone, rows)
    detector = yield Stage(student, mix(rows), "sft", **SCHEDULE)
    return partial(solve_by_evaluation, author, evaluator, detector, rounds)


def collect_analyses(
    teacher: Model,
    evaluator: Model,
    outputs: Outputs,
    biases: Sequence[str],
    settings: Mapping[str, Any],
) -> list[Trace]:
    """Have the evaluator choose without each bias and with it, and the teacher analyse the latter choices."""
    # Each bias has cases of its own, with the outputs placed by chance anew.
    rows: list[Trace] = []
    shares: list[Share] = []
    for bias in biases:
        plain, biased = Case(bias), Case(bias, bias == "position", bias == "bandwagon")
        plain_choices = choose(evaluator, plain, outputs)
        biased_outputs = show_bias(bias, teacher, outputs, settings)
        biased_choices = choose(evaluator, biased, biased_outputs)
        labels = label_choices(plain, plain_choices, biased, biased_choices)

        # Only what has a label is paid for: choices that can't be read have none.
        judged = [choice for choice in biased_choices if choice.problem.id in labels]
        detections = pose_detections(evaluator, biased, biased_outputs, judged, plain_choices)
        analyses = sample(teacher, detections, prompt=partial(show_analysis, bias), **settings)
        agreeing = keep(partial(agrees, labels), keep(is_finished, analyses))
        rows += agreeing
        shares += [
            Share(f"{bias}: biased choices", sum(labels.values()), len(labels)),
            Share(f"{bias}: analyses with the right verdict", len(agreeing), len(analyses)),
        ]
    hint = "A choice is biased where the evaluator is right without the bias in view, and wrong with it."
    report_shares("Biases of the evaluator", shares, hint=hint)
    return rows


# Outputs and choices.


def show_bias(bias: str, teacher: Model, outputs: Outputs, settings: Mapping[str, Any]) -> Outputs:
    """The outputs as they show a bias: a right one that is short, or in a negative tone beside a positive wrong one."""
    # The wrong output keeps its reasoning, so that length speaks for it.
    if bias == "verbosity":
        return outputs._replace(firsts=edit(own_answer_alone, outputs.firsts))
    if bias != "sentiment":
        return outputs
    # Tone is turned against the right output: it sounds dull, and the wrong one delightful.
    retoned: list[list[Trace]] = []
    for tone, texts, test in (
        ("negative", outputs.firsts, right),
        ("positive", outputs.seconds, wrong),
    ):
        prompt = fill_template(RETONE, {"tone": tone})
        rewrites = rewrite(teacher, texts, prompt=prompt, guard=False, **settings)
        # A rewrite with another answer is another output.
        retoned.append(keep(test, verify(edit(reply_alone, keep(is_finished, rewrites)))))
    retoned_right, _ = split_by(retoned[1], retoned[0])
    return Outputs(retoned_right, retoned[1])


def label_choices(
    plain: Case, plain_choices: Sequence[Trace], biased: Case, biased_choices: Sequence[Trace]
) -> dict[str, bool]:
    """By problem whether the choice with a bias in view is biased; without those that can't be read.

    The first output is the right one.
    """
    # An evaluator that errs without the bias too is wrong, and not biased.
    was_right: dict[str, bool] = {}
    for choice in plain_choices:
        if choice.scores.get("choice"):
            was_right[choice.problem.id] = choice.scores["choice"] == place_of_first(plain, choice)
    labels: dict[str, bool] = {}
    for choice in biased_choices:
        if choice.scores.get("choice") and choice.problem.id in was_right:
            is_right = choice.scores["choice"] == place_of_first(biased, choice)
            labels[choice.problem.id] = was_right[choice.problem.id] and not is_right
    return labels


# Analyses of choices.


def show_analysis(bias: str, detection: Any) -> str:
    """The teacher's prompt: the detector's, behind the bias that is looked for."""
    values = {"bias": bias, "meaning": BIASES[bias], "prompt": prompt_text(detection)}
    return fill_template(ANALYSE, values)


def agrees(labels: Mapping[str, bool], analysis: Trace) -> tuple[bool, str]:
    """Its verdict is the one that the choices themselves give."""
    verdict = read_conclusion(analysis.text, reader="bias")
    if verdict is None:
        return False, "no verdict at its end"
    return verdict == labels[
        analysis.problem.id
    ], f"wrong: it says {'biased' if verdict else 'fair'}"


def verdict_alone(analysis: Any) -> dict[str, str]:
    """An analysis without its reasons."""
    is_biased = read_conclusion(analysis.text, reader="bias")
    return {"text": "Yes" if is_biased else "No", "finish_reason": "stop"}


def solve_by_evaluation(
    writer: Model,
    evaluator: Model,
    detector: Model | None,
    rounds: int,
    problems: Sequence[Trace],
    *,
    n: int = 1,
    **sampling: Any,
) -> list[Trace]:
    """For each of n answers two candidates, of which the evaluator chooses one, with the detector to look at it.

    Where it chooses none, or a candidate failed, the first that did not fail is the answer.
    """
    answers: list[Trace] = []
    for _ in range(n):
        candidates = sample(writer, problems, n=2, **sampling)
        groups = group_traces(candidates, problem)
        # Where a candidate failed there is nothing to choose.
        healthy_candidates = [candidate for candidate in candidates if not candidate.error]
        outputs = Outputs([], [])
        for first, *others in group_traces(healthy_candidates, problem).values():
            if others:
                outputs.firsts.append(first)
                outputs.seconds.append(others[0])
        choices = choose(evaluator, Case(), outputs)
        if detector is not None:
            choices = debias(evaluator, detector, rounds, outputs, choices)
        # A place without a readable choice leaves the first candidate.
        places = {choice.problem.id: choice.scores.get("choice") for choice in choices}
        for problem_id, group in groups.items():
            healthy = [candidate for candidate in group if not candidate.error]
            answer = healthy[0] if healthy else group[0]
            place = places.get(str(problem_id))
            if place and place != place_of_first(Case(), answer):
                answer = group[1]
            answers.append(answer)
    return answers


def debias(
    evaluator: Model, detector: Model, rounds: int, outputs: Outputs, choices: list[Trace]
) -> list[Trace]:
    """The evaluator's last choices that can be read: it chooses again while the detector finds its choice biased."""
    choices = [choice for choice in choices if choice.scores.get("choice")]
    open_choices = choices
    for _ in range(rounds):
        detections = pose_detections(evaluator, Case(), outputs, open_choices)
        analyses = sample(detector, detections, **DETECTION)
        biased = [analysis for analysis in analyses if is_biased(analysis)]
        if not biased:
            break
        again, _ = split_by(biased, outputs.firsts)
        context = {"earlier": open_choices, "analyses": biased}
        replies = choose(evaluator, Case(), outputs._replace(firsts=again), context=context)
        # A second choice that can't be read leaves the first one as it was, and is not asked about again.
        open_choices = [choice for choice in replies if choice.scores.get("choice")]
        _, settled = split_by(open_choices, choices)
        choices = [*settled, *open_choices]
    return choices


def is_biased(analysis: Trace) -> bool:
    """The detector says so; of a failed analysis nothing is said."""
    return not analysis.error and read_conclusion(analysis.text, reader="bias") is True
