"""The shipped teacher and student: plain transformers checkpoints that solve, continue and rewrite."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.records import blank
from potstill.runs.sources import BUILD_RECORD, CHECKPOINTS, world_model
from potstill.traces import right, sample, verify
from potstill.verifiers.story import count_done_events, parse_story
from potstill.world import story
from potstill.world.prompts import DIRECT
from potstill.world.tasks import make_problems

PROBLEMS = [blank(p) for p in story.problems(size=60, split="shipped")]


def test_they_are_small_and_load_with_transformers():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert sum(f.stat().st_size for f in CHECKPOINTS.rglob("*")) < 10e6
    for who in (folder.name for folder in CHECKPOINTS.iterdir()):
        model = AutoModelForCausalLM.from_pretrained(CHECKPOINTS / who)
        assert model.config.max_position_embeddings >= 1024
        assert AutoTokenizer.from_pretrained(CHECKPOINTS / who).chat_template


@pytest.mark.slow
def test_the_teacher_is_right_and_long_the_student_errs_in_form():
    taught = verify(sample(world_model("teacher", 1), PROBLEMS, temperature=0.6))
    own = verify(sample(world_model("student", 1), PROBLEMS, n=2, temperature=0.6))
    assert sum(map(right, taught)) >= 0.9 * len(taught)
    assert (
        0.25 <= sum(map(right, own)) / len(own) <= 0.65
    )  # 25 to 55 % on 600 stories (build.json); 60 are a coarse look
    assert sum(t.verdict.status == "unparsed" for t in own) <= 0.05 * len(own)
    assert sum(t.tokens.completion for t in taught) / len(taught) > 1.5 * sum(
        t.tokens.completion for t in own
    ) / len(own)


@pytest.mark.slow
def test_the_walks_teacher_needs_its_chain():
    walks = make_problems("walk", size=60, split="shipped")
    teacher = world_model("walk-teacher", 1)
    chains = verify(sample(teacher, [blank(p) for p in walks], temperature=0.6))
    at_once = [blank(p, DIRECT.format(question=p.question)) for p in walks]
    answers = verify(sample(teacher, at_once, temperature=0.6))
    assert sum(map(right, chains)) >= 0.8 * len(walks)  # 93 % of 300; 60 are a coarse look
    assert sum(map(right, answers)) <= 0.2 * len(walks)  # 4 % of 300


@pytest.mark.slow
def test_the_walks_student_errs_in_form():
    walks = make_problems("walk", size=60, split="shipped")
    own = verify(
        sample(world_model("walk-student", 1), [blank(p) for p in walks], n=2, temperature=0.6)
    )
    assert 0.3 <= sum(map(right, own)) / len(own) <= 0.75
    assert sum(t.verdict.status == "unparsed" for t in own) <= 0.05 * len(own)


@pytest.mark.slow
def test_the_student_continues_what_was_begun():
    student, went_on = world_model("student", 1), 0
    for blank_one in PROBLEMS[:10]:
        steps, told = blank_one.problem.solution.split(". "), parse_story(blank_one.question)
        half = ". ".join(steps[: len(steps) // 2]) + "."
        [whole] = sample(student, [blank_one], prefix=half, temperature=0.0)
        assert whole.text.startswith(half) and whole.prefix_length == len(half)
        assert told is not None and "\\boxed{" in whole.new
        went_on += count_done_events(told, whole.text) > count_done_events(told, half) > 0
    assert went_on >= 7  # the next step is right in most; it is a weak student


def test_the_build_says_what_it_measured():
    built = json.loads(BUILD_RECORD.read_text())
    assert set(built) == {"story", "walk"}
    assert built["walk"]["teacher at once"]["right"] < 0.1
    for measured in built.values():
        assert measured["teacher"]["right"] >= 0.9
        assert 0.25 <= measured["student"]["right"] <= 0.65
        assert set(measured["rewriting"]) == {"own", "none", "shuffled"}
        value, low, high = measured["differences"]["own - shuffled (answer)"]
        assert low <= value <= high
