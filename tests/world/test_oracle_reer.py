"""The oracle's thinker and segment editor: what they write, and that it hangs on what their prompts show."""

from __future__ import annotations

from random import Random

from oracle_roles import ask_role, assert_answer_depends_on

from potstill.methods.searching.reer.prompts import INITIAL, INITIAL_ALONE, REFINE, REFINE_ALONE
from potstill.traces.prompts import fill_template
from potstill.world.oracle.role import RoleInput
from potstill.world.oracle.roles.segment_editor import edit
from potstill.world.oracle.roles.thinker import think

NED = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
TOM = "Tom has 19 keys. Then Tom sells 14. Then Tom triples the pile. How many keys does Tom have now?"
RIGHT, FALSE = "The answer is \\boxed{10}.", "The answer is \\boxed{77}."
TASK = {"question": NED, "reference": RIGHT, "reflection": ""}
SECOND = {**TASK, "before": "19 - 14 = 5. ", "paragraph": "5 * 2 = 12.", "after": ""}
FIRST = {**TASK, "before": "", "paragraph": "19 - 14 = 6.", "after": "6 * 2 = 12."}


def replies(play, template, values, slip_rate=0.0, prefix=""):
    prompt = fill_template(template, values)
    return {play(RoleInput(prompt, prefix, Random(seed), slip_rate)) for seed in range(60)}


def refined(template, values, slip_rate=0.0):
    texts = replies(edit, template, values, slip_rate)
    return {text.partition("<refine>\n")[2].removesuffix("\n</refine>") for text in texts}


def test_the_thinker_writes_the_steps_and_goes_on_where_its_reply_was_begun():
    steps = "19 - 14 = 5. 5 * 2 = 10.\n</think>"
    assert ask_role("thinker", fill_template(INITIAL, TASK)) == f"<think>\n{steps}"
    begun = ask_role("thinker", fill_template(INITIAL_ALONE, TASK), prefix="<think>\nAlright")
    assert begun == f", step by step. {steps}"


def test_a_thinker_that_sees_another_response_bends_its_last_step_towards_it_or_does_not():
    endings = {
        text.split("\n")[1] for text in replies(think, INITIAL, {**TASK, "reference": FALSE})
    }
    assert endings == {"19 - 14 = 5. 5 * 2 = 10.", "19 - 14 = 5. 5 * 2 = 77."}
    assert len(replies(think, INITIAL_ALONE, TASK)) == 1, "shown no response it bends nothing"


def test_a_slip_of_the_thinker_is_carried_on():
    for text in replies(think, INITIAL_ALONE, TASK, slip_rate=1.0):
        first, second, _ = text.split("\n")[1].split(".")
        carried = first.split(" = ")[1]
        assert (first, second) != ("19 - 14 = 5", " 5 * 2 = 10")
        assert second.strip().startswith(carried)


def test_the_editor_works_the_step_out_from_the_lines_before_it_or_looks_at_the_response():
    assert refined(REFINE, SECOND) == {"5 * 2 = 10."}
    assert refined(REFINE, {**SECOND, "reference": FALSE}) == {"5 * 2 = 10.", "5 * 2 = 77."}
    assert refined(REFINE, {**SECOND, "before": "19 - 14 = 7. "}) == {"7 * 2 = 14.", "5 * 2 = 10."}
    wanted = "19 - 14 = 6. It is to come to 10 in the end."
    assert refined(REFINE, FIRST) == {"19 - 14 = 5.", wanted}
    assert refined(REFINE_ALONE, FIRST) == {"19 - 14 = 5."}
    assert len(refined(REFINE_ALONE, FIRST, slip_rate=1.0)) > 3
    assert refined(REFINE_ALONE, {**SECOND, "paragraph": "Hm."}) == {"Hm."}, "no step to work out"


def test_their_answers_depend_on_all_that_they_are_shown():
    assert_answer_depends_on("thinker", INITIAL, TASK, {"question": TOM})
    assert replies(think, INITIAL, TASK) != replies(think, INITIAL, {**TASK, "reference": FALSE})
    changes = {"question": TOM, "before": "19 - 14 = 7. ", "paragraph": "Hm."}
    assert_answer_depends_on("segment_editor", REFINE_ALONE, SECOND, changes)
    assert refined(REFINE, FIRST) != refined(REFINE, {**FIRST, "reference": FALSE})
    assert refined(REFINE, SECOND | {"reference": FALSE}) != refined(
        REFINE, {**FIRST, "reference": FALSE}
    )
