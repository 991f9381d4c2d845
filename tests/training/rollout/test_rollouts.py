"""Rollouts: the same tokens for the same place, never cut again; groups, truncation, sources, buffers, two writers."""

import itertools
import json
import math

import pytest
from rolling import (
    FIRST,
    Stop,
    dataset_of,
    load,
    rollouts,
    stop_at,
    torch,
    traces,
    vowels,
    weights,
    window,
)
from tiny import tiny_checkpoint as make_checkpoint

from potstill.errors import ConfigError
from potstill.models.local import generate
from potstill.models.model import Sampling
from potstill.objectives.schedules import AdaptiveShare, speculative_block
from potstill.training import checkpoint as loading
from potstill.training.fit import fit
from potstill.training.logprobs import batch_log_probs
from potstill.training.objective_config import ObjectiveConfig
from potstill.training.objective_inputs import prepare_objective
from potstill.training.output_dir import STEPS_FILE
from potstill.training.rollout import speculative
from potstill.training.rollout.rollouts import Rollouts
from potstill.training.schedules import ConstantSchedules, When
from potstill.training.settings import LoraSettings, TrainingSettings
from potstill.training.trainer import StudentTrainer, batch_loss


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("teacher") / "qwen3", seed=7, hidden_size=48)


@pytest.fixture(scope="module")
def student(tiny_checkpoint):
    return load(tiny_checkpoint)


def opd(teacher, **more):
    return ObjectiveConfig(
        "opd", teacher=teacher, **{"on_policy_fraction": 1.0, "max_new_tokens": 12, **more}
    )


def completions(batch):
    return [
        ids[p:n]
        for ids, p, n in zip(
            batch["input_ids"].tolist(), batch["prompt_lengths"].tolist(), batch["lengths"].tolist()
        )
    ]


def test_what_is_written_depends_on_weights_seed_step_and_place_alone(student, teacher):
    model, template = student
    rows, config = traces(), opd(teacher)
    first = rollouts(template, config, rows)(model, window(template, rows), FIRST)
    again = rollouts(template, config, rows)(model, window(template, rows), FIRST)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, again) for name in a)
    for other in (
        rollouts(template, config, rows)(model, window(template, rows), When(1, 10)),
        rollouts(template, config, rows, seed=1)(model, window(template, rows), FIRST),
    ):
        assert [completions(batch) for batch in other] != [completions(batch) for batch in first]
    texts = list(itertools.chain.from_iterable(completions(batch) for batch in first))
    assert len({tuple(ids) for ids in texts}) == len(texts)  # no place shares its seed with another


def test_the_model_comes_back_in_the_mode_it_was_in(student, teacher):
    model, template = student
    for mode in (True, False):
        model.train(mode)
        rollouts(template, opd(teacher), traces())(model, window(template, traces()), FIRST)
        assert model.training is mode
    model.eval()


@pytest.mark.parametrize("heat", [1.0, 0.7])
def test_the_sampler_s_log_probabilities_are_the_training_s(student, teacher, heat):
    model, template = student
    config = opd(teacher, rollout_temperature=heat, num_generations=2)
    for batch in rollouts(template, config, traces())(model, window(template, traces()), FIRST):
        counted = batch["loss_weights"] > 0
        torch.testing.assert_close(
            batch["sampled"][counted], batch_log_probs(model, batch)[counted], rtol=0, atol=2e-5
        )
        assert int(counted.sum()) == int((batch["lengths"] - batch["prompt_lengths"]).sum())


def test_tokens_are_never_cut_again(student, teacher, monkeypatch):
    """The tokenizer may not be asked for ids, and what is trained on is what `generate_batch` drew."""
    model, template = student
    batches, seen = window(template, traces()), []
    plain = generate.generate_batch

    def watched(*args):
        seen.extend(plain(*args))
        return seen[-len(args[1].prompt_of_row) :]

    monkeypatch.setattr(generate, "generate_batch", watched)
    monkeypatch.setattr(
        type(template.tokenizer),
        "__call__",
        lambda *a, **k: pytest.fail("text was cut into tokens"),
    )
    made = rollouts(template, opd(teacher), traces())(model, batches, FIRST)
    assert [ids for batch in made for ids in completions(batch)] == [drawn.ids for drawn in seen]
    prompts = [
        ids[:n].tolist()
        for batch in batches
        for ids, n in zip(batch["input_ids"], batch["prompt_lengths"])
    ]
    after = [
        ids[:n].tolist()
        for batch in made
        for ids, n in zip(batch["input_ids"], batch["prompt_lengths"])
    ]
    assert prompts == after


def test_advantages_are_within_the_completions_of_a_prompt(student):
    model, template = student
    config = ObjectiveConfig(
        "grpo", on_policy_fraction=1.0, num_generations=4, max_new_tokens=10, reward=vowels
    )
    rows = traces(4)
    (batch,) = rollouts(template, config, rows)(model, window(template, rows, 4), FIRST)
    assert batch["trace_index"].tolist() == [i for i in range(4) for _ in range(4)]
    roller = rollouts(template, config, rows)
    told = torch.tensor(
        [vowels(None, roller.text(ids)) for ids in completions(batch)], dtype=torch.float64
    )
    torch.testing.assert_close(batch["reward"][:, 0].double(), told, rtol=0, atol=1e-5)
    groups = told.view(4, 4)
    wanted = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(
        batch["advantages"][:, 0].double().view(4, 4), wanted, rtol=0, atol=1e-5
    )


def test_without_a_reward_the_verifier_decides(student):
    model, template = student
    config = ObjectiveConfig("grpo", on_policy_fraction=1.0, num_generations=2, max_new_tokens=6)
    (batch,) = rollouts(template, config, traces(2))(model, window(template, traces(2)), FIRST)
    assert (
        batch["reward"].abs().sum() == 0 and batch["advantages"].abs().sum() == 0
    )  # babble answers nothing
    assert set(batch["answered"].flatten().tolist()) <= {0.0, 1.0}


def test_a_rollout_that_the_limit_cut_has_no_end_and_may_be_masked(student, teacher):
    model, template = student
    for masked in (False, True):
        config = opd(teacher, mask_truncated_completions=masked, max_new_tokens=3)
        (batch,) = rollouts(template, config, traces(3))(model, window(template, traces(3)), FIRST)
        cut = batch["stopped"][:, 0] == 0
        assert cut.all() and not any(template.end_token_id in ids for ids in completions(batch))
        assert bool((batch["loss_weights"].sum(1) == 0).all()) == masked


def test_prompts_near_the_context_leave_what_room_there_is(tmp_path, teacher):
    start = make_checkpoint(tmp_path / "short", positions=40)
    model, template = load(start)
    (batch,) = rollouts(template, opd(teacher, max_new_tokens=64), traces(2))(
        model, window(template, traces(2)), FIRST
    )
    assert batch["lengths"].max() <= 40


def test_the_normaliser_counts_what_was_written(tiny_checkpoint, teacher, tmp_path):
    """golden: on_policy_loss_normaliser: the labels of the rows that were replaced are not what is divided by."""
    model, template = load(tiny_checkpoint)
    rows = traces(4)
    config = ObjectiveConfig("jsd", teacher=teacher, on_policy_fraction=0.999, max_new_tokens=9)
    settings = TrainingSettings(
        batch_size=2, gradient_accumulation_steps=2, num_train_epochs=1, learning_rate=1e-3
    )
    dataset = dataset_of(rows, template)
    made = prepare_objective(config, model, step_rows=rollouts(template, config, rows))
    loop = StudentTrainer(model, dataset, settings, tmp_path, None, objective_inputs=made)
    loop.state.max_steps = 1
    batches, count = loop.get_batch_samples(
        iter(loop.get_train_dataloader()), 2, torch.device("cpu")
    )
    assert "stopped" in batches[0]
    written = sum(int((batch["lengths"] - batch["prompt_lengths"]).sum()) for batch in batches)
    labels = sum(int(row.is_learnt.sum()) for row in dataset.rows)
    assert int(count) == written != labels


@pytest.mark.slow
@pytest.mark.parametrize("mean", ["token", "sequence", "fixed"])
def test_a_step_on_rollouts_is_a_step_on_the_same_tokens_as_rows(student, teacher, mean):
    """However the window is cut, and equal to the formula on full logits."""
    model, template = student
    config = opd(teacher, loss_reduction=mean)
    made = prepare_objective(config, model, step_rows=rollouts(template, config, traces()))
    batches = made.step_batches(model, window(template, traces(), 2), FIRST)
    count = sum(made.normaliser_count(batch) for batch in batches)
    model.zero_grad()
    for batch in batches:
        batch_loss(model, batch, count, made)[0].backward()
    split = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    by_hand(model, made.teacher, batches, mean, config.max_new_tokens).backward()
    for mine, whole in zip(split, model.parameters()):
        torch.testing.assert_close(mine, whole.grad, rtol=1e-3, atol=1e-6)
    model.zero_grad()


def by_hand(model, teacher, batches, mean, longest):
    total, tokens, sequences = 0.0, 0, 0
    for batch in batches:
        for ids, prompt, length in zip(
            batch["input_ids"], batch["prompt_lengths"].tolist(), batch["lengths"].tolist()
        ):
            ids = ids[None, :length]
            logq, logp = (
                m(input_ids=ids)
                .logits[0, prompt - 1 : -1]
                .log_softmax(-1)
                .gather(1, ids[0, prompt:, None])[:, 0]
                for m in (model, teacher)
            )
            loss = ((logq.detach() - logp.detach()) * (logq - logq.detach()).exp()).sum()
            total = total + (loss / (length - prompt) if mean == "sequence" else loss)
            tokens, sequences = tokens + length - prompt, sequences + 1
    return total / {"token": tokens, "sequence": sequences, "fixed": sequences * longest}[mean]


@pytest.mark.slow
def test_gkd_tosses_once_a_step(student, teacher):
    model, template = student
    config = ObjectiveConfig("jsd", teacher=teacher, on_policy_fraction=0.4, max_new_tokens=2)
    roll, wrote = rollouts(template, config, traces()), []
    for step in range(40):
        made = roll(model, window(template, traces(), prompts=False), When(step, 40))
        kinds = {"stopped" in batch for batch in made}
        assert len(kinds) == 1  # the whole window, or none of it
        wrote.append(kinds.pop())
    assert 8 <= sum(wrote) <= 24
    again = [
        rollouts(template, config, traces())._source(When(step, 40)) == "fresh"
        for step in range(40)
    ]
    assert again == wrote


@pytest.mark.slow
def test_distillm_s_buffer_grows_is_used_and_is_kept_by_a_checkpoint(student, teacher):
    model, template = student
    config = ObjectiveConfig(
        "skew_kl", teacher=teacher, on_policy_fraction=0.9, replay_buffer_size=6, max_new_tokens=3
    )
    roll, seen = rollouts(template, config, traces()), []
    for step in range(9):
        made = roll(model, window(template, traces(), prompts=False), When(step, 10))
        seen.append([completions(batch) for batch in made])
    assert len(roll._buffer) == 6 and roll._buffer.is_full
    other = rollouts(template, config, traces())
    other.restore(roll.state())
    for step in (9, 10, 11):
        ours, theirs = (
            r(model, window(template, traces(), prompts=False), When(step, 10))
            for r in (roll, other)
        )
        assert all(
            torch.equal(a[name], b[name]) for a, b in zip(ours, theirs, strict=True) for name in a
        )
        if roll._source(When(step, 10)) == "replay":
            old = {
                tuple(ids)
                for ids in itertools.chain.from_iterable(itertools.chain.from_iterable(seen))
            }
            assert {tuple(ids) for batch in ours for ids in completions(batch)} <= old
    for loss in (2.0, 2.05, 2.2):
        roll.update_share(loss)
    assert roll._adaptive_share == AdaptiveShare(1.0, 2.2)


@pytest.mark.slow
def test_student_and_teacher_mixed_draw_from_the_mixture(student, teacher):
    """Both caches, rows that end at different times: each said log-probability is that of a fresh forward pass."""
    model, template = student
    other, _ = load(teacher)
    roll = rollouts(template, opd(teacher, max_new_tokens=20), traces())
    prompts = [
        ids[:n].tolist()
        for batch in window(template, traces())
        for ids, n in zip(batch["input_ids"], batch["prompt_lengths"])
    ]
    pair = speculative.ModelPair(model, other, speculative.mixed(0.2))
    drawn = roll.write_completions(model, prompts, list(range(len(prompts))), pair)
    for prompt, one in zip(prompts, drawn):
        ids = torch.tensor([prompt + one.ids])
        p, q = (
            m(input_ids=ids).logits[0, len(prompt) - 1 : -1].double().softmax(-1)
            for m in (other, model)
        )
        both = (0.2 * p + 0.8 * q).log().gather(1, ids[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(torch.tensor(one.logprobs), both.float(), rtol=0, atol=1e-4)
    alone = roll.write_completions(model, prompts, list(range(len(prompts))))
    same = roll.write_completions(
        model,
        prompts,
        list(range(len(prompts))),
        speculative.ModelPair(model, model, speculative.mixed(0.5)),
    )
    assert [one.ids for one in alone] == [one.ids for one in same]


@pytest.mark.slow
def test_interleaved_tokens_are_those_of_blocks():
    """Every text of three tokens is as probable as drafting two, checking, replacing and drafting again makes it."""
    generator = torch.Generator().manual_seed(0)
    table = {
        prefix: torch.randn(2, 4, generator=generator, dtype=torch.float64) * 2
        for n in range(4)
        for prefix in itertools.product(range(4), repeat=n)
    }
    how, theirs, best = Sampling(temperature=0.5), Sampling(temperature=0.8), 2
    rule = speculative.interleaved(how, theirs, best=best)

    def shares(prefix):
        q, p = table[prefix]
        sets = set(p.topk(best).indices.tolist())
        return (q / 0.5).softmax(-1), (p / 0.8).softmax(-1), sets

    def by_blocks(prefix, chance, found):
        if len(prefix) >= 3:
            found[prefix[:3]] = found.get(prefix[:3], 0.0) + chance
            return
        size = min(2, 3 - len(prefix))
        for draft in itertools.product(range(4), repeat=size):
            c = chance * math.prod(
                float(shares((*prefix, *draft[:i]))[0][draft[i]]) for i in range(size)
            )
            likely = [shares((*prefix, *draft[:i]))[2] for i in range(size)]
            kept = speculative_block(draft, likely, -1)
            if kept[-1] != -1:
                by_blocks((*prefix, *kept), c, found)
                continue
            for token in range(4):
                before = (*prefix, *kept[:-1])
                by_blocks((*before, token), c * float(shares(before)[1][token]), found)

    blocks = {}
    by_blocks((), 1.0, blocks)
    assert sum(blocks.values()) == pytest.approx(1.0, abs=1e-9)
    for text, chance in blocks.items():
        token_by_token = 1.0
        for i in range(3):
            q, p = table[text[:i]]
            joint = rule(q[None], p[None])[0]
            assert float(joint.sum()) == pytest.approx(1.0, abs=1e-9)
            token_by_token *= float(joint[text[i]])
        assert chance == pytest.approx(token_by_token, abs=1e-9)


def test_two_writers_leave_the_student_s_own_share_behind(student, teacher):
    model, template = student
    other, _ = load(teacher)
    for config in (
        opd(teacher, rollout_sampling="speculative"),
        ObjectiveConfig(
            "minillm", {"mixed": 0.2}, teacher=teacher, on_policy_fraction=1.0, max_new_tokens=12
        ),
    ):
        (batch,) = rollouts(template, config, traces(3))(
            model, window(template, traces(3)), FIRST, other
        )
        counted = batch["loss_weights"] > 0
        torch.testing.assert_close(
            batch["sampled"][counted], batch_log_probs(model, batch)[counted], rtol=0, atol=1e-6
        )
    alone = rollouts(template, opd(teacher), traces(3))(model, window(template, traces(3)), FIRST)
    assert completions(alone[0]) != completions(batch)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ("grpo", "sapo", "vespo"))
def test_a_policy_gradient_near_a_reference_starts_at_it(tiny_checkpoint, objective):
    """New text is compared with the student as it began: k3 is 0 at first; with adapters, the student without them."""
    for lora in (None, LoraSettings(r=4)):
        settings = TrainingSettings(lora=lora)
        model = loading.load_student(tiny_checkpoint, settings)
        _, template = load(tiny_checkpoint)
        config = ObjectiveConfig(
            objective,
            {"beta": 0.1},
            on_policy_fraction=1.0,
            num_generations=2,
            max_new_tokens=6,
            reward=vowels,
        )
        made = prepare_objective(config, model, step_rows=rollouts(template, config, traces(2)))
        (batch,) = made.step_batches(model, window(template, traces(2)), FIRST)
        assert float(batch_loss(model, batch, 1.0, made)[1].stats["kl"].total) == pytest.approx(
            0, abs=1e-5
        )
        with torch.no_grad():
            for name, p in model.named_parameters():
                if lora is None or "lora_B" in name:
                    p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
        (batch,) = made.step_batches(model, window(template, traces(2)), FIRST)
        assert float(batch_loss(model, batch, 1.0, made)[1].stats["kl"].total) > 1e-3


def long_at_random(problem, text):
    """A reward of 0 or 1 that often is the same for a whole group."""
    return float(sum(map(ord, text)) % 3 == 0)


TASKS = {
    "opd": opd,
    "gkd": lambda t: ObjectiveConfig(
        "jsd", {"beta": 0.5}, teacher=t, on_policy_fraction=0.5, max_new_tokens=8, eval_rows=2
    ),
    "kdrl": lambda t: ObjectiveConfig(
        "kdrl",
        teacher=t,
        on_policy_fraction=1.0,
        num_generations=2,
        max_new_tokens=6,
        reward=vowels,
        schedule={"beta": (5e-3, 1e-3)},
    ),
    "near": lambda t: ObjectiveConfig(
        "grpo",
        {"beta": 0.1},
        on_policy_fraction=1.0,
        num_generations=2,
        max_new_tokens=6,
        reward=vowels,
    ),
    "nover": lambda t: ObjectiveConfig(
        "grpo",
        on_policy_fraction=1.0,
        num_generations=2,
        max_new_tokens=6,
        reward={"nover": 1.0, "overlong": 1.0},
    ),
    "taid": lambda t: ObjectiveConfig("taid", teacher=t, max_new_tokens=8),
    "distillm": lambda t: ObjectiveConfig(
        "skew_kl",
        teacher=t,
        on_policy_fraction=0.8,
        replay_buffer_size=5,
        max_new_tokens=6,
        eval_steps=2,
    ),
    "skd": lambda t: ObjectiveConfig(
        "forward_kl",
        teacher=t,
        on_policy_fraction=1.0,
        rollout_sampling="speculative",
        max_new_tokens=6,
    ),
    "minillm": lambda t: ObjectiveConfig(
        "minillm", {"mixed": 0.2}, teacher=t, on_policy_fraction=1.0, max_new_tokens=6
    ),
    "own average, shown the answer": lambda _: ObjectiveConfig(
        "jsd",
        teacher_model_kind="ema",
        teacher_update_rate=0.3,
        teacher_sync_steps=2,
        teacher_prompt_template="The answer is {answer}. {prompt}",
        on_policy_fraction=1.0,
        max_new_tokens=6,
    ),
    "itself, shown a verdict": lambda _: ObjectiveConfig(
        "opd",
        teacher_model_kind="live",
        teacher_prompt_template="{prompt} {attempt}: {verdict}. {feedback} {right_attempt}",
        on_policy_fraction=1.0,
        num_generations=2,
        max_new_tokens=6,
    ),
    "pools": lambda _: ObjectiveConfig(
        "grpo",
        on_policy_fraction=1.0,
        num_generations=2,
        max_new_tokens=4,
        reward=long_at_random,
        difficulty_pools={"hard": (0.4, 0.2), "easy": (1.0, 0.5)},
        recheck_steps=2,
        max_resample_times=2,
    ),
    "iterated": lambda teacher: ObjectiveConfig(
        "grpo",
        on_policy_fraction=1.0,
        num_generations=3,
        max_new_tokens=8,
        reward=vowels,
        num_iterations=3,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LoraSettings(r=4, lora_dropout=0.1)], ids=["full", "lora"])
@pytest.mark.parametrize("name", TASKS)
def test_after_a_kill_the_weights_are_those_of_an_undisturbed_run(
    tiny_checkpoint, teacher, tmp_path, name, lora
):
    if lora and name not in ("opd", "near", "nover", "own average, shown the answer"):
        pytest.skip("one of each kind with adapters")
    settings = TrainingSettings(
        num_train_epochs=6,
        batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        threads=1,
        save_steps=2,
        lora=lora,
    )
    config = TASKS[name](teacher)
    whole = fit(traces(), tiny_checkpoint, tmp_path / "whole", settings, config=config)
    out = tmp_path / "killed"
    for step in (3, 5):
        torch.manual_seed(step)
        with pytest.raises(Stop):
            fit(traces(), tiny_checkpoint, out, settings, config=config, progress=stop_at(step))
    resumed = fit(traces(), tiny_checkpoint, out, settings, config=config)
    assert resumed.losses == whole.losses and resumed.tokens == whole.tokens
    assert resumed.stats == whole.stats
    assert weights(out) == weights(tmp_path / "whole")
    assert weights(out) != weights(tiny_checkpoint)


@pytest.mark.slow
def test_what_is_written_once_is_learnt_in_several_steps(tiny_checkpoint, tmp_path, monkeypatch):
    asked, plain = [], Rollouts._roll_out_batch
    monkeypatch.setattr(
        Rollouts, "_roll_out_batch", lambda *given: asked.append(given[3]) or plain(*given)
    )
    config = ObjectiveConfig(
        "grpo",
        {"clip": 1e-3},
        on_policy_fraction=1.0,
        num_generations=3,
        max_new_tokens=8,
        reward=vowels,
        num_iterations=3,
    )
    settings = TrainingSettings(
        max_steps=5,
        batch_size=2,
        learning_rate=3e-3,
        threads=1,
        max_grad_norm=0,
        warmup_steps=0,
        save_steps=0,
    )
    fit(traces(), tiny_checkpoint, tmp_path / "out", settings, config=config)
    assert asked == ["0/0", "3/0"]
    steps = [json.loads(line) for line in (tmp_path / "out" / STEPS_FILE).read_text().splitlines()]
    assert [step["loss_tokens"] for step in steps[:3]] == [steps[0]["loss_tokens"]] * 3
    assert [step["drift"] > 1e-4 for step in steps] == [False, True, True, False, True]
    assert [step["clipped"] > 0 for step in steps] == [False, True, True, False, True]


@pytest.mark.slow
def test_taid_moves_once_a_step_with_the_step_s_loss(tiny_checkpoint, teacher, tmp_path):
    moving = ConstantSchedules(ObjectiveConfig("taid", teacher=teacher, max_new_tokens=8))
    seen = []
    for step, loss in enumerate((2.0, 1.8, 1.7, 1.65)):
        moving.advance(When(step, 10), {"loss": loss})
        seen.append(moving.constants(When(step, 10))["t"])
    assert seen == pytest.approx([0.4, 0.46, 0.52, 0.58])
    fixed = ConstantSchedules(
        ObjectiveConfig("taid", {"t": 0.7}, teacher=teacher, max_new_tokens=8)
    )
    assert fixed.constants(When(0, 10)) == {}
    again = ConstantSchedules(ObjectiveConfig("taid", teacher=teacher, max_new_tokens=8))
    again.restore(moving.state())
    assert again.constants(When(4, 10)) == moving.constants(When(4, 10))
    losses = []
    for accumulate in (1, 2):
        settings = TrainingSettings(
            num_train_epochs=2,
            batch_size=6 // accumulate,
            gradient_accumulation_steps=accumulate,
            learning_rate=1e-3,
            group_by_length=False,
        )
        done = fit(
            traces(),
            tiny_checkpoint,
            tmp_path / str(accumulate),
            settings,
            config=ObjectiveConfig("taid", teacher=teacher, max_new_tokens=8),
        )
        losses.append(done.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and len(losses[0]) == 2


def test_constants_move_in_a_line():
    moving = ConstantSchedules(
        ObjectiveConfig(
            "kdrl",
            teacher="t",
            on_policy_fraction=1.0,
            num_generations=2,
            schedule={"beta": (5e-3, 1e-3)},
        )
    )
    assert [moving.constants(When(step, 5))["beta"] for step in range(5)] == pytest.approx(
        [5e-3, 4e-3, 3e-3, 2e-3, 1e-3]
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"objective": "jsd", "teacher": "t", "rollout_sampling": "speculative"},
            "on_policy_fraction is above 0",
        ),
        (
            {
                "objective": "jsd",
                "teacher": "t",
                "rollout_sampling": "both",
                "on_policy_fraction": 1.0,
            },
            "not student or speculative",
        ),
        (
            {
                "objective": "grpo",
                "on_policy_fraction": 1.0,
                "num_generations": 2,
                "rollout_sampling": "speculative",
            },
            "local teacher",
        ),
        (
            {
                "objective": "jsd",
                "teacher": "t",
                "replay_buffer_size": 5,
                "on_policy_fraction": 1.0,
            },
            "on_policy_fraction below 1",
        ),
        (
            {"objective": "jsd", "teacher": "t", "num_iterations": 2, "on_policy_fraction": 0.5},
            "the student's own text: on_policy_fraction=1",
        ),
        (
            {"objective": "opd", "teacher": object(), "on_policy_fraction": 1.0},
            "gives no likelihoods",
        ),
        ({"objective": "jsd", "teacher": object()}, "tells no likeliest tokens"),
        (
            {"objective": "jsd", "teacher": "t", "schedule": {"gamma": (0, 1)}},
            "no constant gamma to move",
        ),
        (
            {
                "objective": "minillm",
                "constants": {"mixed": 0.2},
                "teacher": "t",
                "on_policy_fraction": 1.0,
                "rollout_temperature": 0.5,
            },
            "mixed sampling is at temperature 1",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(config, said):
    with pytest.raises(ConfigError, match=said):
        ObjectiveConfig(**config)
