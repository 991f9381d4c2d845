"""The oracle as SuperCorrect's template writer, corrector and inspector: it knows what its prompt shows."""

from __future__ import annotations

import pytest
from oracle_roles import ask_role, assert_answer_depends_on

from potstill.methods.errors.supercorrect.format import read_solution
from potstill.methods.errors.supercorrect.prompts import (
    INSPECT,
    INSPECT_CORRECTION,
    WRITE_FLAT,
    correction_prompt,
    teacher_prompt,
)
from potstill.methods.errors.supercorrect.prompts import REVISE as REVISION
from potstill.methods.errors.supercorrect.settings import Settings
from potstill.models.model import Request
from potstill.traces.prompts import fill_template
from potstill.world.oracle.program import answer_request

NED = "Ned has 19 shells. Then Ned sells 14. Then Ned doubles the pile. How many shells does Ned have now?"
ANN = (
    "Ann has 3 coins. Then Ann buys 4. Then Ann doubles the pile. How many coins does Ann have now?"
)
RIGHT = "19 - 14 = 5. 5 * 2 = 10. The answer is \\boxed{10}."
OTHER = "19 - 14 = 4. 4 * 2 = 8. The answer is \\boxed{8}."
PLAIN = Settings(xml=False)
WRITE = teacher_prompt(Settings())
GROUNDED = correction_prompt(Settings(), grounded=True)
ALONE = correction_prompt(Settings(), grounded=False)
WRONG = (
    "<Step1>\n19 - 14 = 5.\n</Step1>\n<Step2>\n5 * 2 = 11.\n</Step2>\n<Answer>\\boxed{11}</Answer>"
)
WRONG_EARLIER = WRONG.replace("19 - 14 = 5", "19 - 14 = 6")
SHOWN = {"question": NED, "solution": RIGHT, "text": WRONG}


def ask(role: str, template: str, **values: str) -> str:
    return ask_role(role, fill_template(template, {**SHOWN, **values}))


def revise(role: str, template: str, draft: str, faults: str) -> str:
    revision = fill_template(REVISION, {"text": draft, "faults": faults})
    return ask_role(role, fill_template(template, SHOWN) + revision)


def test_the_writer_puts_the_reference_into_the_template_and_solves_nothing():
    solution = read_solution(ask("template_writer", WRITE))
    assert [step.text for step in solution.steps] == ["19 - 14 = 5.", "5 * 2 = 10."]
    assert [bool(step.key) for step in solution.steps] == [True, True] and solution.generalized
    assert solution.answer == "\\boxed{10}"
    believed = read_solution(ask("template_writer", WRITE, solution=OTHER))
    assert believed.steps[0].text == "19 - 14 = 4." and believed.answer == "\\boxed{8}"
    assert_answer_depends_on("template_writer", WRITE, SHOWN, {"solution": OTHER})


def test_the_writer_keeps_to_the_form_that_is_asked_for():
    bare = teacher_prompt(Settings(key=False, generalized=False))
    text = ask("template_writer", bare)
    assert "Key" not in text and "General" not in text
    plain = ask("template_writer", teacher_prompt(PLAIN))
    assert "<" not in plain and read_solution(plain).steps[1].text == "5 * 2 = 10."
    assert ask("template_writer", WRITE_FLAT) == RIGHT


@pytest.mark.parametrize("settings", [Settings(), PLAIN])
def test_the_corrector_names_the_first_wrong_step_its_cause_and_correction(settings):
    attempt = WRONG if settings.xml else "Step 1: 19 - 14 = 5.\nStep 2: 5 * 2 = 11.\nAnswer: 11"
    template = correction_prompt(settings, grounded=True)
    solution = read_solution(ask("template_corrector", template, text=attempt))
    assert solution.first_fault == 2 and solution.answer == "\\boxed{10}"
    wrong = solution.steps[1]
    assert wrong.text == "5 * 2 = 11." and wrong.correction == "5 * 2 = 10."
    assert wrong.cause == "5 * 2 does not make 11"


def test_with_a_reference_the_corrector_believes_it_and_without_one_it_works_the_story_out():
    misled = read_solution(ask("template_corrector", GROUNDED, solution=OTHER))
    assert misled.first_fault == 1 and misled.steps[0].correction == "19 - 14 = 4."
    alone = read_solution(ask("template_corrector", ALONE))
    assert alone.first_fault == 2 and alone.steps[1].correction == "5 * 2 = 10."
    changes = {"solution": OTHER, "text": WRONG_EARLIER}
    assert_answer_depends_on("template_corrector", GROUNDED, SHOWN, changes)
    changes = {"question": ANN, "text": WRONG_EARLIER}
    assert_answer_depends_on("template_corrector", ALONE, SHOWN, changes)


def test_the_corrector_says_of_each_kind_of_error_what_it_is():
    causes = {
        "5 * 3 = 15": "the event is * 2, not * 3",
        "6 * 2 = 12": "the total before it is 5, not 6",
        "so ten": "nothing is worked out",
    }
    for step, cause in causes.items():
        attempt = WRONG.replace("5 * 2 = 11", step)
        solution = read_solution(ask("template_corrector", GROUNDED, text=attempt))
        assert solution.steps[1].cause == cause
    longer = WRONG.replace("11", "10").replace(
        "<Answer>", "<Step3>\n10 + 1 = 11.\n</Step3>\n<Answer>"
    )
    extra = ask("template_corrector", GROUNDED, text=longer)
    assert read_solution(extra).first_fault == 3
    assert ask("template_inspector", INSPECT_CORRECTION, text=extra) == "Yes."
    merged = "<Step1>\n19 - 14 = 5. Stp 2: 5 * 2 = 11.\n</Step1>\n<Answer>\\boxed{11}</Answer>"
    solution = read_solution(ask("template_corrector", GROUNDED, text=merged))
    assert solution.steps[0].cause == "5 * 2 does not make 11" and len(solution.steps) == 1
    right = WRONG.replace("11", "10")
    assert read_solution(ask("template_corrector", GROUNDED, text=right)).first_fault == 0


def test_the_inspector_sees_the_chain_and_the_reference():
    right = ask("template_writer", WRITE)
    assert ask("template_inspector", INSPECT, text=right) == "Yes."
    verdict = "No. Step 2 is wrong: there comes 5 * 2 makes 10."
    assert ask("template_inspector", INSPECT) == verdict
    answered = right.replace("{10}", "{12}")
    assert ask("template_inspector", INSPECT, text=answered).endswith("answer is wrong: it is 10.")
    short = ask("template_inspector", INSPECT, text="<Step1>\n19 - 14 = 5.\n</Step1>")
    assert short == "No. A step is missing at the end: there comes 5 * 2 makes 10."
    changes = {"solution": OTHER, "text": WRONG_EARLIER}
    assert_answer_depends_on("template_inspector", INSPECT, SHOWN, changes)


def test_the_inspector_of_a_correction_looks_at_what_it_corrects_and_how():
    mended = ask("template_corrector", GROUNDED)
    assert ask("template_inspector", INSPECT_CORRECTION, text=mended) == "Yes."
    slipped = mended.replace("5 * 2 = 10", "5 * 2 = 12")
    assert "Step 2 is wrong" in ask("template_inspector", INSPECT_CORRECTION, text=slipped)
    needless = mended.replace("5 * 2 = 11", "5 * 2 = 10")
    verdict = ask("template_inspector", INSPECT_CORRECTION, text=needless)
    assert verdict == "No. Step 2 is wrong: it was right as it stood."


def test_what_is_faulted_is_mended_where_the_faults_say_and_nowhere_else():
    draft = ask("template_writer", WRITE).replace("= 5.", "= 7.").replace("2 = 10.", "2 = 11.")
    mended = revise("template_writer", WRITE, draft, "No. Step 2 is wrong: something.")
    assert mended == draft.replace("2 = 11.", "2 = 10.")
    assert revise("template_writer", WRITE, draft, "No. I do not like it.") == draft
    slipped = ask("template_corrector", GROUNDED).replace("5 * 2 = 10", "5 * 2 = 12")
    mended = revise("template_corrector", GROUNDED, slipped, "No. Step 2 is wrong: something.")
    assert read_solution(mended).steps[1].correction == "5 * 2 = 10."
    assert read_solution(mended).steps[1].text == "5 * 2 = 11."


@pytest.mark.parametrize("template", [WRITE, INSPECT])
def test_without_a_reference_that_it_can_read_it_fails_and_says_so(template):
    prompt = fill_template(template, {**SHOWN, "solution": "It is obvious."})
    completion = answer_request(Request(prompt))
    assert completion.error.startswith("program: the prompt shows no reference solution")


def test_a_writer_that_slips_writes_another_result_in_one_step():
    prompt = fill_template(WRITE, SHOWN)
    slipped = [ask_role("template_writer", prompt, sample_index=i, slip_rate=1.0) for i in range(4)]
    assert len(set(slipped)) > 1
    for text in slipped:
        wrong = [one for one in ("19 - 14 = 5.", "5 * 2 = 10.") if one not in text]
        assert len(wrong) == 1 and "\\boxed{10}" in text
