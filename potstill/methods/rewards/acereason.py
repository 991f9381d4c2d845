"""AceReason: rewards on mathematics with growing lengths, then rewards on code.

| constant | value | source |
|---|---|---|
| longest texts on mathematics | 8,192, 16,384, 24,576, 32,768 | second description: 8K to 32K |
| longest text on code | 32,768 | inferred |
| texts a problem | 8 | inferred |
| temperature | 1 | inferred |
| divergence to the start, steps on the same texts, mean | none, one, over tokens | second description |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

from potstill.errors import StageError
from potstill.methods.rollouts import Rollouts
from potstill.models.model import Trainable
from potstill.records import Stage, Trace
from potstill.traces import note

CODE_KINDS = ("code",)


def acereason(
    problems: list[Trace],
    student: Trainable,
    *,
    arm: Literal["paper", "math-only", "code-only", "one-length"] = "paper",
    lengths: tuple[int, ...] = (8192, 16384, 24576, 32768),
    rollouts: Rollouts = Rollouts(max_new_tokens=32768),
) -> Generator[Stage, Trainable, None]:
    """AceReason-Nemotron: rewards on mathematics alone, then on code alone (Chen et al., arXiv:2505.16400).

    Learns from: its own texts by verdict, on mathematics with a limit that grows, then on code by tests.
    Needs: student (writes and is trained).
    Controls: arm=math-only, code-only (one of the two), one-length (the last limit from the beginning).
    Departure: every stage has all problems of its domain; the paper leaves out those that its start solves always.
        Code has one stage of one length, and a text that is cut at its limit is wrong in every stage (inferred).
    Paper: 69
    Cite: Yang Chen, Zhuolin Yang, Zihan Liu, Chankyu Lee, Peng Xu, Mohammad Shoeybi, Bryan Catanzaro, Wei Ping:
        AceReason-Nemotron: Advancing Math and Code Reasoning through Reinforcement Learning (2025).

    Args:
        arm: the paper, or one of its controls.
        lengths: longest texts on mathematics, a stage each, in tokens.
        rollouts: how the student writes; its longest text is that of code.
    """
    code = [trace for trace in problems if trace.problem.kind in CODE_KINDS]
    mathematics = [trace for trace in problems if trace.problem.kind not in CODE_KINDS]
    if arm == "code-only":
        mathematics = []
    if arm == "math-only":
        code = []
    if not mathematics and not code:
        raise StageError(
            f"acereason {arm}: none of {len(problems)} problems is of this domain",
            expected="problems of kind code, and of any other kind for mathematics",
            fix="other problems, or --set arm=paper",
        )

    if mathematics:
        for length in lengths[-1:] if arm == "one-length" else lengths:
            keywords = rollouts.keywords(max_new_tokens=length)
            student = yield Stage(student, mathematics, "grpo", name=f"math-{length}", **keywords)
    if code:
        yield Stage(student, code, "grpo", name="code", **rollouts.keywords())
    elif arm == "paper":
        note("acereason: no problem is of kind code, so its second half is left out")
