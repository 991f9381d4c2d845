"""Control-R: chains are learnt behind eleven scores of themselves, and an answer is asked for with the best ones.

| constant | value | source |
|---|---|---|
| fields, their order and form, scores from 0 to 9 | 11 | paper, sec. 2.1, 2.2 and figure A1 |
| temperature of the teacher | 1.0 | paper, app. B.2 |
| temperature of the annotator | 0.0 | paper, app. B.3 |
| wrong chains | dropped; those of other data sets are not looked at | paper, app. B.2 |
| fields of an answer | all 9; compared with all 5, all 0 and none | paper, sec. 3.1 and table 3 |
| chains a problem | 1 | inferred |
| longest chain | 16,384 tokens | inferred |
| training: rate, warm-up, batch, steps | 5e-5 cosine, 0.1, 32, 1,660; LoRA 16 | paper, app. C; left to the recipe |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from potstill.methods.replies import reply_of
from potstill.methods.shuffling import shuffled_key
from potstill.models.model import Model, Trainable
from potstill.records import Stage, Trace
from potstill.traces import (
    Share,
    among,
    best,
    by_chance,
    count_reading,
    dedupe,
    edit,
    is_finished,
    keep,
    line,
    pose,
    problem,
    report_shares,
    rewrite,
    right_test,
    sample,
    show_one,
    solve_posed,
    verify,
    words,
)

FIELDS = (
    # How the search is carried out
    "search_depth",
    "search_breadth",
    "error_detection",
    "error_correction",
    "strategy_switching",
    # How good it is
    "correctness",
    "efficiency",
    "completeness",
    "coherence",
    "knowledge_accuracy",
    "clarity_of_steps",
)
LARGEST_SCORE = 9
# In our words, after the paper's figure A1.
ANNOTATE = """\
Score the reasoning below on eleven scales, each with a whole number from 0 to 9:
- search_depth: 0 stops after a step or two; 9 goes many layers deep, or divides the problem
- search_breadth: 0 follows one path; 9 explores several possibilities and compares them
- error_detection: 0 checks nothing, or doubts what is right; 9 checks often and strictly, and finds what is wrong
- error_correction: 0 leaves errors as they are, or spoils what is right; 9 goes back and tries again until it is right
- strategy_switching: 0 is rigid, or changes its method blindly; 9 changes its method on purpose, and gains by it
- correctness: 0 has an answer that is clearly wrong; 9 has the right answer
- efficiency: 0 is full of needless attempts; 9 gets there with the fewest steps
- completeness: 0 misses conditions or steps; 9 covers all that the problem needs
- coherence: 0 contradicts itself; 9 lets each step follow from those before it
- knowledge_accuracy: 0 has facts and concepts wrong; 9 has them all right
- clarity_of_steps: 0 muddles steps or leaves them out; 9 makes every step plain

Problem: {prompt}

Reasoning:
{text}

Write one JSON object and nothing else: the eleven names with their scores, and "justification" with one to five \
sentences."""

# What the learner sees of the scores; the closing tag is written as in the paper.
CONTROLLED = "{prompt}\n{fields}"
LEVELS: Mapping[str, int] = {"high": 9, "middle": 5, "low": 0}
_SCORE = re.compile(r'"([a-z_]{1,30})"\s{0,9}:\s{0,9}([0-9])(?![0-9.])')


def control_r(
    problems: list[Trace],
    teacher: Model,
    student: Trainable,
    annotator: Model | None = None,
    *,
    arm: Literal["control-r", "unconditioned", "shuffled", "unfiltered"] = "control-r",
    fields: Literal["high", "middle", "low", "none"] = "high",
    n: int = 1,
    steps: bool | None = None,
    temperature: float = 1.0,
    max_new_tokens: int = 16384,
) -> Generator[Stage, Trainable, Any]:
    """Control-R: chains are learnt behind scores of themselves (Zhang et al., arXiv:2506.00189).

    L = E[-sum_i log P(r_i | r_<i, q, C)]: C are eleven scores of the chain r, written behind the question q. An answer
    is asked for with scores of the reader's choice.

    Learns from: a teacher's right chains, each behind eleven scores that an annotator gave it.
    Needs: teacher (writes chains), student (is trained), [annotator] (scores the chains; else the teacher does).
    Controls: arm=unconditioned (the same chains without scores: plain distillation), shuffled (behind the scores of
        another problem's chain: is it what they say?), unfiltered (wrong chains too, with what they scored),
        fields=middle (answers are asked for with 5 everywhere), fields=low (with 0), fields=none (without scores, which
        the paper's student can hardly answer).
    Departure: the annotator's prompt is in our words, and shows the question beside the chain. Chains of three other
        data sets, of which the paper takes a part as they are, come by --problems and a recorded teacher. An answer is
        asked for as the rows are, without the paper's sentence about boxes and the thought that it begins.
    Paper: 107
    Cite: Di Zhang, Weida Wang, Junxian Li, Xunzhi Wang, Jiatong Li, Jianbo Wu, Jingdi Lei, Haonan He, Peng Ye, Shufei
        Zhang, Wanli Ouyang, Yuqiang Li, Dongzhan Zhou: Control-R: Towards controllable test-time scaling (2025).

    Args:
        teacher: writes the chains; DeepSeek-R1 in the paper.
        annotator: scores each chain once; ChatGPT-4o in the paper.
        arm: the method or one of its controls.
        fields: the scores with which the trained student is asked: all 9, all 5, all 0, or none.
        n: chains of a problem.
        steps: also demand that every step is right; left open, where the problems' verifier judges steps.
        temperature: of the teacher.
        max_new_tokens: longest chain; one that is cut there is no row.
    """
    # Right chains, each wording once.
    chains = sample(teacher, problems, n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    chains = verify(dedupe(words, keep(is_finished, chains)))
    if arm != "unfiltered":
        chains = keep(right_test(problems, steps), chains)
    if arm == "unconditioned":
        yield Stage(student, chains, "sft")
        return None

    # Their scores, as the learner will see them.
    judge = annotator or teacher
    replies = rewrite(judge, chains, prompt=ANNOTATE, guard=False, temperature=0.0)
    control_fields = edit(write_fields, keep(is_finished, replies))
    report_fields(control_fields)

    # (q, C) -> r: each chain behind its own scores.
    scored = among(control_fields, chains, by=line)
    show_fields = partial(show_one, CONTROLLED)
    if arm == "shuffled":
        # One chain's scores of each problem, shown to another problem.
        of_problems = best(by_chance, control_fields, by=problem)
        another = shuffled_key(of_problems, what="scored chains")
        context = {"fields": of_problems}
        rows = pose(show_fields, scored, context=context, by=another, keep_text=True)
    else:
        context = {"fields": control_fields}
        rows = pose(show_fields, scored, context=context, by=line, keep_text=True)
    student = yield Stage(student, rows, "sft")

    if fields == "none":
        return None
    wanted = format_fields(dict.fromkeys(FIELDS, LEVELS[fields]))
    return partial(solve_posed, student, CONTROLLED.replace("{fields}", wanted))


def write_fields(annotation: Any) -> str | None:
    """The scores of an annotator's reply in the learner's form; None where one is missing, or stands there twice."""
    scores: dict[str, int] = {}
    reply = reply_of(annotation.text)
    # Two scores of one field say nothing of the chain.
    for name, score in _SCORE.findall(reply):
        if scores.setdefault(name, int(score)) != int(score):
            scores.clear()
            break
    if not scores.keys() >= set(FIELDS):
        count_reading("control fields", annotation.text, "unparsed")
        return None
    is_strict = reply.startswith("{") and reply.rstrip().endswith("}")
    count_reading("control fields", annotation.text, "strict" if is_strict else "tolerant")
    return format_fields(scores)


def format_fields(scores: Mapping[str, int]) -> str:
    """The eleven scores as the learner sees them."""
    written = "; ".join(f"{name}: {scores[name]}" for name in FIELDS)
    return f"<control> {written} <control/>"


def report_fields(control_fields: Sequence[Trace]) -> None:
    """Say what the chains scored: a field that all of them score alike can't be learnt to control."""
    shares: list[Share] = []
    written = " ".join(trace.text for trace in control_fields)
    for name in FIELDS:
        scores = [int(score) for score in re.findall(rf"\b{name}: ([0-9])", written)]
        shares.append(Share(name, sum(scores), LARGEST_SCORE * len(scores)))
    hint = "Points of the chains, of nine each. A field on which all score alike is one that can't be controlled."
    report_shares("Control fields", shares, hint=hint)
