"""The build's loop: it learns, weighs and resumes exactly; a checkpoint that it ships is a plain one."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch", reason="needs the extra potstill[local]")

import torch

from potstill.models.local.transformers import TransformersModel
from potstill.models.model import Request
from potstill.verifiers.story import Event, Story
from potstill.world import build, learn, lessons
from potstill.world import tokenizer as tokens
from potstill.world.families import SHIPPED
from potstill.world.story import Dials
from potstill.world.story_lessons import StoryFamily
from potstill.world.walk_lessons import WalkFamily

STORIES = StoryFamily(Dials(1, 1))
SCHEDULE = learn.Schedule(batch_tokens=256, warmup=2, last=12, decay=6)


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.make_tokenizer(lessons.corpus(STORIES, 40, 0))


def lesson(rng: random.Random) -> lessons.Row:
    return lessons.solve_brief(rng, STORIES)


def phase(tokenizer, folder):
    return learn.Phase(
        "tiny", learn.new_model(tokenizer, 1, hidden=32, layers=1), SCHEDULE, folder, 5
    )


def weights(of):
    return torch.cat([p.detach().flatten() for p in of.model.parameters()])


@pytest.mark.slow
def test_resumed_training_ends_in_the_same_weights(tokenizer, tmp_path):
    calm = phase(tokenizer, tmp_path)
    first = calm.train(tokenizer, lesson, 4)
    last = calm.train(tokenizer, lesson, 12)
    assert last < first
    (tmp_path / "again").mkdir()
    killed = phase(tokenizer, tmp_path / "again")
    killed.train(tokenizer, lesson, 7)
    killed.save()
    killed.train(tokenizer, lesson, 9)  # lost with the process
    resumed = phase(tokenizer, tmp_path / "again")
    assert resumed.step == 7
    resumed.train(tokenizer, lesson, 12)
    assert torch.equal(weights(resumed), weights(calm))


def test_silent_pieces_have_no_loss(tokenizer):
    row = lessons.Row("Q", "1 + 1 = 2.", ((7, 9),))
    ids, counted = learn.encode_row(tokenizer, row)
    assert len(ids) == len(counted)
    silent = [
        tokenizer.decode([i])
        for i, counts in zip(ids[-7:], counted[-7:], strict=True)
        if not counts
    ]
    assert silent == [" 2"] and counted[-1]


def test_the_rate_warms_up_and_falls():
    rates = [SCHEDULE.rate(step) for step in range(12)]
    assert rates[0] == 0.5 and rates[1] == rates[6] == 1.0
    assert rates[7:] == sorted(rates[7:], reverse=True) and rates[11] == pytest.approx(1 / 6)


def test_a_shipped_checkpoint_is_read_by_the_product(tokenizer, tmp_path):
    build.save_checkpoint(phase(tokenizer, tmp_path).model, tokenizer, tmp_path / "out")
    [answer] = TransformersModel(tmp_path / "out", threads=1).write([Request("Ned has 3 cups.")])
    assert not answer.error and answer.tokens.prompt > 5


def test_a_storys_rewriting_row_is_careful_only_where_an_attempt_went_wrong():
    question, told = "Ned has 92 cups.", Story(92, (Event("-", 28), Event("/", 2)))
    wrong = "92 - 28 = 66. 66 / 2 = 33. The answer is \\boxed{33}."
    row = STORIES.answer_briefly(
        lessons.rewriting_prompt(question, "92 - 28 = 64. 64 / 2 = 32.", [wrong]), told
    )
    careful = "Check: 92 - 20 = 72. Check: 72 - 8 = 64. 92 - 28 = 64. 64 / 2 = 32. The answer is \\boxed{32}."
    assert row == lessons.Row(row.prompt, careful)
    alone = STORIES.answer_briefly(lessons.rewriting_prompt(question, "92 - 28 = 64.", []), told)
    assert alone.completion == "92 - 28 = 64. 64 / 2 = 32. The answer is \\boxed{32}."
    assert [alone.completion[a:b] for a, b in alone.silent] == [" 32"]


def test_a_walks_rewriting_row_is_careful_only_where_an_attempt_went_wrong():
    walks = WalkFamily()
    question = (
        "Ned is at (3, 5) and faces north. Then Ned turns left. Then Ned walks 2. Where is Ned now?"
    )
    reference = "Left: west. 2 west: 3 - 2 = 1, at (1, 5). The answer is \\boxed{(1, 5)}."
    wrong = "Left: east. 2 east: 3 + 2 = 5, at (5, 5). The answer is \\boxed{(5, 5)}."
    task = walks.parse(question)
    row = walks.answer_briefly(lessons.rewriting_prompt(question, reference, [wrong]), task)
    assert row.completion == f"Check: left from north is west. {reference}" and not row.silent
    alone = walks.answer_briefly(lessons.rewriting_prompt(question, "Left: west.", []), task)
    assert alone.completion == reference
    assert [alone.completion[a:b] for a, b in alone.silent] == [" 3 - 2 = 1, at (1, 5)"]


def test_every_checkpoint_has_settings_and_a_training():
    for checkpoint in SHIPPED.values():
        assert checkpoint.family in build.SETTINGS and checkpoint.role in ("teacher", "student")
