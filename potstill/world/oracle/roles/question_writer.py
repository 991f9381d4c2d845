"""The question writer: shown a story, it writes another one with as many events, about somebody else."""

from __future__ import annotations

import re

from potstill.world.oracle.role import Role, RoleInput, read_story
from potstill.world.story import TASKS, Dials, draw_story

PATTERN = re.compile(r"New question:\s*\Z")


def write_question(role_input: RoleInput) -> str:
    """A new story with the number of events of the one that the prompt shows."""
    _, story = read_story(role_input.prompt)
    events = len(story.events)
    dials = Dials(min_events=events, max_events=events, max_total=TASKS["story"].max_total)
    question, _ = draw_story(role_input.rng, dials)
    return question


ROLE = Role("question_writer", PATTERN, write_question)
