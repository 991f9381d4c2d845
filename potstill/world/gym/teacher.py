"""`world:gym-teacher?style=long`: a program that solves the families' questions, in one of the styles.

It knows what its prompt shows and nothing else: it reads the first question there, and solves it. What else a prompt
asks (to judge, to compare) it does not read; a prompt without a question of a family gets an error and no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import final

from potstill.models.model import Completion, Request, cut_at_stop
from potstill.records import Prompt, Tokens
from potstill.verifiers.equations import follow
from potstill.verifiers.equations.families import solve_first_question
from potstill.verifiers.equations.solution import Solution
from potstill.world.gym.styles import STYLES, write_labelled

VERSION = 1  # goes up whenever what is written changes
NO_QUESTION = "program: world:gym-teacher found no question of its families in the prompt"


@final
@dataclass(frozen=True)
class GymTeacher:
    """Writes right solutions.

    Args:
        style: one of `STYLES`.
    """

    style: str = "long"

    @property
    def id(self) -> str:
        """Says that a program wrote, in which style and version."""
        return f"program-gym-teacher-{self.style}-{VERSION}"

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request; a prompt without a question is a completion with an error."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        prompt = _prompt_text(request.prompt)
        solution = solve_first_question(prompt)
        if solution is None:
            return Completion("", "", error=NO_QUESTION)
        rng = Random(request.random_seed(self.id))
        text = self._write(solution, request.prefix, rng)
        text, stop_string = cut_at_stop(text, request.sampling.stop)
        tokens = Tokens(len(prompt.split()), len(text.split()))
        return Completion(
            text, "stop_string" if stop_string else "stop", tokens, stop_string=stop_string
        )

    def _write(self, solution: Solution, prefix: str, rng: Random) -> str:
        """The solution, or what is missing behind a prefix."""
        if not prefix.strip():
            return STYLES[self.style](solution, rng)
        standing = follow.follow_text(solution, prefix)
        gap = "" if prefix[-1].isspace() else " "
        if any(span.score == 0 for span in standing.spans()):
            return f"{gap}Hmm, that is not right. Start again. {STYLES[self.style](solution, rng)}"
        sentences: list[str] = []
        for index, step in enumerate(solution.steps):
            if index not in standing.done:
                sentences.append(f"{write_labelled(step)}.")
        sentences.append(f"So the answer is \\boxed{{{solution.answer}}}.")
        return gap + " ".join(sentences)


def _prompt_text(prompt: Prompt) -> str:
    """A prompt as one text, the contents of its messages one a line."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message.content for message in prompt)
