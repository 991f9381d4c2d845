"""What counts as a step of a text, in any text, and what does not."""

from __future__ import annotations

import pytest

from potstill.traces.reasoning_steps import count_steps, find_reasoning_steps, reference_part


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("So the answer is \\boxed{8}.", 0),
        ("\\boxed{8}", 0),
        ("#### 8", 0),
        ("<answer>8</answer>", 0),
        ("Therefore, the total number of shells is \\boxed{8}.", 0),
        ("", 0),
        ("Start with 5. Next, 5 + 3 = 8. So the answer is \\boxed{8}.", 2),
        ("So \\boxed{5 + 3 = 8}.", 1),  # it calculates where it answers
        ("The answer is (B) because Paris lies in France.", 1),  # it gives a reason
        ("Then 5 + 2 = 7, 7 - 3 = 4 and 4 * 2 = 8.", 3),
        ("5 + 2 = 7\n7 - 3 = 4\n4 * 2 = 8\nA: 8", 3),
        ("He sells 48/2 = <<48/2=24>>24 clips.", 1),
        ("Step 1: Add the shells:\n\\[\n5 + 3 = 8\n\\]", 1),
        ("**Solution:**\n1. Add the tens.\n2. Add the ones.\n\\boxed{8}", 2),
        ("Add. Add. Add. Add. \\boxed{8}", 1),  # said again
        ("[asy]\ndraw(A--B);\nlabel(C);\n[/asy]\nThe area is 3 * 4 = 12.", 1),
        ("先算三加五。等于八。答案是 \\boxed{8}。", 2),
    ],
)
def test_a_step_says_something_besides_the_answer(text, steps):
    assert count_steps(text) == steps


def test_what_the_question_says_is_no_step_and_the_last_sentence_may_state_the_answer():
    question = "Ned has 5 shells. Then Ned finds 3 more. How many shells does Ned have now?"
    copied = "Ned has 5 shells. Then Ned finds 3 more. Ned has 8 shells."
    assert count_steps(copied) == 3
    assert count_steps(copied, question=question) == 1
    assert count_steps(copied, question=question, answer="8") == 0
    assert count_steps("5 + 3 = 8. Ned has 8 shells.", question=question, answer="8") == 1


def test_a_chain_with_detours_has_the_steps_of_a_brief_one():
    brief = "Start with 8. 8 * 2 = 16. 16 * 7 = 112. So the answer is \\boxed{112}."
    long = (
        "<think>\nOkay, let me work this out carefully. Start with 8.\nNow I multiply: 8 * 2 = 18.\n"
        "Wait, that is not right. I try it once more.\nNow I multiply: 8 * 2 = 16.\nCheck: 16 / 2 = 8. Good.\n"
        "Hmm, let me be careful. Start again. Start with 8.\nNow I multiply: 8 * 2 = 16.\n"
        "Now I multiply: 16 * 7 = 112.\nLet me double-check: 112 / 7 = 16.\nAll done.\n</think>\n"
        "Therefore the final result is \\boxed{112}."
    )
    assert count_steps(brief) == count_steps(long) == 3


def test_steps_are_found_where_they_stand():
    text = "Start with 5. Then 5 + 3 = 8."
    steps = find_reasoning_steps(text)
    assert [text[step.start : step.stop] for step in steps] == ["Start with 5.", "Then 5 + 3 = 8."]


def test_a_long_thought_with_a_write_up_is_measured_by_the_write_up():
    thought = "<think>\nTry 4 + 3 = 7. Wait, no. 5 + 3 = 8. Yes.\n</think>\n"
    write_up = "5 + 2 = 7. 7 + 1 = 8. So \\boxed{8}."
    assert reference_part(thought + write_up).strip() == write_up
    assert "4 + 3" in reference_part(f"{thought}The answer is \\boxed{{8}}.")


def test_hostile_text_takes_linear_time():
    for text in ("\\boxed{" * 20_000, "<<" * 40_000, "Step " * 20_000, "[asy]" * 20_000):
        count_steps(text)


@pytest.mark.parametrize(
    ("second", "steps"),
    [
        ("Wait times are 2 hours each, so 8 * 2 = 16.", 2),
        ("Actually each has 2, so 8 * 2 = 16.", 2),
        ("Wait, that is not right.", 0),
        ("No, wait. Let me see.", 0),
    ],
)
def test_a_sentence_takes_back_only_where_it_says_so(second, steps):
    assert count_steps(f"Ann has 5 + 3 = 8 apples. {second}") == steps
