"""Rewards by name: the verifier, form, lengths, a teacher's score, the gold answer's chance under a slow copy."""

import math

import pytest
from rolling import FIRST, load, rollouts, torch, traces, window
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import ConfigError, StageError
from potstill.records import Problem, Trace
from potstill.training.dataset.training_dataset import TokenizedRow
from potstill.training.objective_config import ObjectiveConfig, reward_id
from potstill.training.rollout import rewards
from potstill.training.rollout.rewards import RewardContext, Rewards, Rollout

PROMPT = "Ned has 3 shells."
TEXTS = (
    "<think>1 + 2</think>The answer is 3.",
    "<think>1 + 2 and so on, and so on</think>The answer is 3.",
    "The answer is 4.",
    "no",
)


@pytest.fixture(scope="module")
def student(tiny_checkpoint):
    return load(tiny_checkpoint)


def written(template, texts=TEXTS, answer="3"):
    problem = Problem("p", PROMPT, answer=answer, kind="number")
    prompt = template.tokenizer(template.render_prompt(PROMPT), add_special_tokens=False)[
        "input_ids"
    ]
    made = []
    for text in texts:
        ids = template.tokenizer(text, add_special_tokens=False)["input_ids"]
        weights = (0.0,) * len(prompt) + (1.0,) * len(ids)
        made.append(
            Rollout(problem, text, TokenizedRow.of(0, (*prompt, *ids), weights, len(prompt)), 0)
        )
    return made


def models(model, template, teacher=None, step=0):
    return RewardContext(model, teacher, template, step, 100)


def test_names_alone_and_together(student):
    model, template = student
    some, at_hand = written(template), models(model, template)
    assert Rewards(None)(some, at_hand).rewards == [1.0, 1.0, 0.0, 0.0]
    assert Rewards("form")(some, at_hand) == ([1.0, 1.0, 0.0, 0.0], None, None, None)
    shorter = Rewards("shorter")(some, at_hand).rewards
    assert shorter[1] == 0.0 and 0 < shorter[0] < 1 and shorter[2:] == [0.0, 0.0]
    both = Rewards({"verifier": 1.0, "form": 0.25, "shorter": 0.5})(some, at_hand)
    assert both.rewards == pytest.approx([1.25 + 0.5 * shorter[0], 1.25, 0.0, 0.0])
    assert both.answered == [True, True, True, False]
    assert both.right == [True, True, False, False]
    own = Rewards(lambda problem, text: len(text))(some, at_hand)
    assert own == ([float(len(text)) for text in TEXTS], None, None, None)


def test_a_name_that_there_is_not():
    with pytest.raises(ConfigError, match="no reward 'truth'"):
        Rewards({"truth": 1.0})


def test_a_teacher_s_score_is_its_mean_token_probability(student, tmp_path):
    model, template = student
    other, _ = load(make_checkpoint(tmp_path / "teacher", seed=7))
    some = written(template)
    made = Rewards("teacher")(
        some, models(model, template, lambda rows: rewards.score_rows(other, rows))
    ).rewards
    for one, value in zip(some, made):
        ids = torch.tensor([one.row.input_ids.tolist()])
        logs = other(input_ids=ids).logits[0, one.row.prompt_length - 1 : -1].log_softmax(-1)
        mean = float(logs.gather(1, ids[0, one.row.prompt_length :, None]).mean().detach())
        assert value == pytest.approx(math.exp(mean), rel=1e-4)
    with pytest.raises(ConfigError, match="needs a teacher"):
        Rewards("teacher")(some, models(model, template))
    assert (
        Rewards("teacher")(some, models(model, template, lambda rows: [[]] * len(rows))).rewards
        == [0.0] * 4
    )


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("<think>1 + 2</think>The answer is 3.", "<think>1 + 2</think>The answer is"),
        ("<think>1 + 2</think>3", "<think>1 + 2</think>"),
        ("17 + 44 = 61. The answer is \\boxed{61}.", "17 + 44 = 61. The answer is \\boxed{"),
        ("#### 4 or #### 5", "#### 4 or ####"),
        ("no", ""),
    ],
)
def test_where_the_answer_begins(text, before):
    assert rewards.reasoning_before_answer(text) == before


def test_nover_by_hand(student):
    """Mean nll of the gold answer behind each reasoning under the policy's copy, adjusted, ranked."""
    model, template = student
    some = written(template)
    made = Rewards("nover")(some, models(model, template)).rewards
    scores = []
    for one in some[:3]:
        thought = template.tokenizer(
            rewards.reasoning_before_answer(one.text), add_special_tokens=False
        )["input_ids"]
        answer = template.tokenizer(" 3", add_special_tokens=False)["input_ids"]
        before = [*one.row.prompt_ids, *thought]
        ids = torch.tensor([[*before, *answer]])
        logs = model(input_ids=ids).logits[0, len(before) - 1 : -1].log_softmax(-1)
        nll = -float(logs.gather(1, torch.tensor(answer)[:, None]).mean().detach())
        scores.append(math.exp(nll / max(1, 1 + math.log10(len(thought)))))
    ranks = [sum(other < score for other in scores) for score in scores]
    assert made == pytest.approx([*[(3 - rank) / 3 for rank in ranks], 0.0])
    efficient = Rewards("nover_efficiency")(some, models(model, template)).rewards
    assert efficient[3] == 0.0 and max(efficient) <= 1.0


def test_nover_s_copy_follows_the_student_slowly(tmp_path, student):
    _, template = student
    model, _ = load(make_checkpoint(tmp_path / "policy", seed=3))
    reward, some = Rewards("nover"), written(template)
    reward(some, models(model, template))
    copy = [p.clone() for p in reward._proxy._model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    reward(some[:2], models(model, template, step=rewards.PROXY_UPDATE_STEPS - 1))
    assert all(torch.equal(a, b) for a, b in zip(copy, reward._proxy._model.parameters()))
    reward(some, models(model, template, step=rewards.PROXY_UPDATE_STEPS))
    for old, now in zip(copy, reward._proxy._model.parameters()):
        torch.testing.assert_close(now, old + rewards.PROXY_STUDENT_SHARE)
    again = Rewards("nover")
    again.restore(reward.state())
    assert again(some, models(model, template, step=101)) == reward(
        some, models(model, template, step=101)
    )
    assert not [p for p in reward._proxy._model.parameters() if p.requires_grad]


def test_nover_needs_gold_answers(student):
    _, template = student
    with pytest.raises(StageError, match="no problem has one"):
        rollouts(
            template,
            ObjectiveConfig("grpo", on_policy_fraction=1, num_generations=2, reward="nover"),
            [Trace(Problem("1", "?"), "?")],
        )


def test_queries_are_compared_with_the_gold_query_which_somebody_must_have(student):
    model, template = student
    problem = Problem("1", "Who?", "SELECT name FROM people", kind="table")
    texts = ("SELECT name FROM people", "SELECT age FROM people", "Nobody.")
    some = [one._replace(problem=problem) for one in written(template, texts=texts)]
    made = Rewards({"query_clauses": 1.0, "query_text": 0.0})(some, models(model, template))
    assert made.rewards == [1.0, 0.5, 0.0] and made.right is None
    assert 0.5 < Rewards("query_text")(some, models(model, template)).rewards[1] < 1
    with pytest.raises(StageError, match="no problem has a gold query"):
        Rewards("query_text").check([Problem("1", "Who?", "Ada")])


def test_groups_are_ranked_apart(student):
    model, template = student
    some = written(template)
    two = [one._replace(group=at % 2) for at, one in enumerate(some)]
    made = Rewards("nover")(two, models(model, template)).rewards
    assert sorted(made[::2]) == [0.5, 1.0] and made[1] == 1.0 and made[3] == 0.0


def test_in_a_window_with_a_teacher(student, tmp_path):
    model, template = student
    teacher = make_checkpoint(tmp_path / "teacher", seed=7)
    config = ObjectiveConfig(
        "grpo",
        teacher=teacher,
        on_policy_fraction=1.0,
        num_generations=2,
        max_new_tokens=6,
        reward={"teacher": 1.0, "overlong": 0.1},
    )
    (batch,) = rollouts(template, config, traces(3))(
        model, window(template, traces(3)), FIRST, load(teacher)[0]
    )
    assert len(set(batch["reward"][:, 0].tolist())) > 3 and batch["advantages"].abs().sum() > 0


def test_a_reward_s_id_is_its_names_and_weights():
    assert reward_id("nover") == reward_id({"nover": 1.0}) != reward_id({"nover": 0.5})
    assert reward_id({"form": 1, "nover": 1}) == reward_id({"nover": 1, "form": 1})
