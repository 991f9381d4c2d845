"""The oracle: chooses the role of each prompt, and makes completions of what the role writes."""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from random import Random
from typing import final

from potstill.models.model import Completion, Request, cut_at_stop
from potstill.models.scripted import last_user
from potstill.records import Prompt, Tokens
from potstill.verifiers.story import VERSION
from potstill.world.oracle import roles
from potstill.world.oracle.role import STORY, CannotAnswerError, Role, RoleInput

SLIP_RATE = 0.1  # how likely one answer of a role that can slip has a slip

# The roles that answer where no other recognises the prompt: the first of them that does.
GENERAL_ROLES = ("corrector", "programmer", "solver")


@final
@dataclass(frozen=True)
class Oracle:
    """Answers each prompt in the role that the prompt asks for, from what the prompt shows.

    Args:
        slip_rate: how likely one answer of a role that can slip (a coder) has a slip of its own.
    """

    slip_rate: float = SLIP_RATE

    @property
    def id(self) -> str:
        """Says that a program wrote; changes with the version of any role and with the rate of slips."""
        versions = [f"{role.name}@{role.version}" for role in load_roles().values()]
        contents = " ".join([*versions, f"slip_rate={self.slip_rate}"])
        return f"program-oracle-{VERSION}-{hashlib.sha256(contents.encode()).hexdigest()[:12]}"

    def write(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request; a prompt without what its role needs is a completion with an error."""
        return [answer_request(request, self.slip_rate) for request in requests]


def answer_request(request: Request, slip_rate: float = SLIP_RATE) -> Completion:
    """The completion of one prompt, in the role that the prompt asks for."""
    prompt = prompt_text(request.prompt)
    try:
        role = choose_role(prompt)
        # Seeded by the role, not by the oracle's id: another role that is added moves no answer of this one.
        rng = Random(request.random_seed(f"oracle {role.name}@{role.version}"))
        if role.name == "solver":
            prompt = asked_text(request.prompt)
        text = role.answer(RoleInput(prompt, request.prefix, rng, slip_rate))
    except CannotAnswerError as error:
        return Completion("", "", error=f"program: {error}")
    text, stop_string = cut_at_stop(text.removeprefix(request.prefix), request.sampling.stop)
    return Completion(
        text,
        "stop_string" if stop_string else "stop",
        Tokens(len(prompt.split()), len(text.split())),
        stop_string=stop_string,
    )


def choose_role(prompt: str) -> Role:
    """The role that a prompt asks for.

    Raises:
        CannotAnswerError: several roles recognise the prompt.
    """
    all_roles = load_roles()
    recognising: list[Role] = []
    for name, role in all_roles.items():
        if name not in GENERAL_ROLES and role.pattern.search(prompt):
            recognising.append(role)
    if len(recognising) > 1:
        names = ", ".join(role.name for role in recognising)
        raise CannotAnswerError(f"several roles of the oracle recognise the prompt: {names}")
    if recognising:
        return recognising[0]
    for name in GENERAL_ROLES:
        if all_roles[name].pattern.search(prompt):
            return all_roles[name]
    raise AssertionError("the solver recognises every prompt")


@cache
def load_roles() -> dict[str, Role]:
    """Every role, by name: one for each file of `roles/`."""
    all_roles: dict[str, Role] = {}
    for file in sorted(pkgutil.iter_modules(roles.__path__), key=lambda module: module.name):
        role = import_module(f"{roles.__name__}.{file.name}").ROLE
        if role.name != file.name:
            raise AssertionError(f"roles/{file.name}.py holds a role called {role.name!r}")
        all_roles[role.name] = role
    return all_roles


def prompt_text(prompt: Prompt) -> str:
    """A prompt as one text, the contents of its messages one a line."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message.content for message in prompt)


def asked_text(prompt: Prompt) -> str:
    """The last turn where it shows a story: turns before it are worked examples. Else all of a prompt."""
    last_turn = last_user(prompt)
    if STORY.search(last_turn):
        return last_turn
    return prompt_text(prompt)
