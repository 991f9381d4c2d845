"""The oracle as P-ALIGN's judge: what is left behind the beginning that it is shown decides."""

from __future__ import annotations

import pytest
from oracle_roles import ask_role, assert_answer_depends_on

from potstill.methods.rewriting.p_align.prompts import JUDGE
from potstill.traces.prompts import fill_template

NED = (
    "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. Then Ned finds 4 more. "
    "How many shells does Ned have now?"
)
START, STEP = "We start with 19.", "We start with 19. The pile shrinks: 19 - 14 = 5."


@pytest.mark.parametrize(("text", "verdict"), [(START, "[NOT_ENOUGH]"), (STEP, "[ENOUGH]")])
def test_two_equations_may_be_left(text, verdict):
    prompt = fill_template(JUDGE, {"question": NED, "text": text})
    assert ask_role("prefix_judge", prompt) == verdict


def test_its_verdict_depends_on_the_story_and_on_the_beginning():
    values = {"question": NED, "text": STEP}
    changes = {"question": NED.replace("19", "29"), "text": START}
    assert_answer_depends_on("prefix_judge", JUDGE, values, changes)
