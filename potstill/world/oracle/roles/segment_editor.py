"""The segment editor: shown a story, a thought with a marked paragraph, mostly a response too, it edits the paragraph.

Half of the time, and always without a response, it works the paragraph's step out again from those before it. Else
it looks at where the thought is to end: the last step it makes arrive at the response's number, whatever it comes from;
of an earlier one it says which number is wanted in the end. Where it works a step out it slips as often as it is told.
"""

from __future__ import annotations

import re

from potstill.verifiers.story import Story, apply_event
from potstill.world.oracle.role import CannotAnswerError, Role, RoleInput, read_story
from potstill.world.oracle.roles.thinker import LARGEST_SLIP, read_target

# A copy of words of methods/searching; tests/world/test_oracle_reer.py compares the two.
PATTERN = re.compile(r"between <refine> and </refine>")
_THINKING = re.compile(r"\nThinking:\n(.*)<paragraph>\n(.*?)\n</paragraph>\n(.*)\Z", re.DOTALL)
_EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (-?\d+)")
TARGET_SHARE = 0.5


def edit(role_input: RoleInput) -> str:
    """What the paragraph is for, and the paragraph written anew."""
    _, story = read_story(role_input.prompt)
    thinking = _THINKING.search(role_input.prompt)
    if thinking is None:
        raise CannotAnswerError("the segment editor found no marked paragraph in the prompt")
    before, paragraph, after = thinking.groups()
    # It believes the lines before the paragraph: the next step goes on from the last result there, right or wrong.
    results = [int(result) for *_, result in _EQUATION.findall(before)]
    target = read_target(role_input.prompt)
    # Without a response there is nothing to look at but the story.
    if target is not None and role_input.rng.random() < TARGET_SHARE:
        is_last = not after.strip()
        refined = look_at_target(paragraph, target, is_last)
    else:
        slip = 0
        if role_input.rng.random() < role_input.slip_rate:
            slip = role_input.rng.randint(1, LARGEST_SLIP)
        refined = work_out(story, results, paragraph, slip)
    analysis = f"It is step {len(results) + 1} of {len(story.events)}."
    return f"<analyze>{analysis}</analyze>\n<refine>\n{refined}\n</refine>"


def work_out(story: Story, results: list[int], paragraph: str, slip: int) -> str:
    """The paragraph with the next step worked out from the last result before it; as it is without such a step."""
    if len(results) >= len(story.events) or _EQUATION.search(paragraph) is None:
        return paragraph
    # One step an event: as many events are done as there are results.
    event = story.events[len(results)]
    total = results[-1] if results else story.start
    equation = f"{total} {event.op} {event.operand} = {apply_event(total, event) + slip}"
    return _EQUATION.sub(equation, paragraph, count=1)


def look_at_target(paragraph: str, target: int, is_last: bool) -> str:
    """The paragraph with its result replaced by the target, or followed by a word about the target."""
    if is_last:
        return _EQUATION.sub(rf"\1 \2 \3 = {target}", paragraph, count=1)
    return f"{paragraph} It is to come to {target} in the end."


ROLE = Role("segment_editor", PATTERN, edit)
