"""Tasks: what can't be trained is refused at once; a stage's keywords find their place; what makes a student's id."""

import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")
from learning_rows import pairs, rows

from potstill import objectives
from potstill.errors import ConfigError, ModelError, StageError
from potstill.records import Problem, Trace
from potstill.training import config_checks
from potstill.training.dataset.build import RIVAL_SKIPPED, SAME_TOKENS
from potstill.training.fit import fit
from potstill.training.objective_config import LOOP_KEYWORDS, ObjectiveConfig, bind, reward_id
from potstill.training.settings import ALIASES, SETTINGS, TrainingSettings

SOMEWHERE = Path("checkpoint")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"objective": "rdi"}, "no objective 'rdi'"),
        ({"objective": "redi", "constants": {"alfa": 1}}, "no constant alfa (known: alpha)"),
        ({"objective": "sft", "constants": {"beta": 1}}, "no constant beta (known: none)"),
        ({"objective": "dskd"}, "a teacher= is needed"),
        ({"objective": "ted_filters"}, "a teacher= is needed"),
        (
            {"objective": "ted_filters", "teacher": "t", "on_policy_fraction": 0.5},
            "projections are trained on rows",
        ),
        ({"objective": "dskd", "teacher": "t", "options": {"filters": "f"}}, "no option filters"),
        ({"objective": "uld", "teacher_cache": SOMEWHERE}, "cached teacher logits are no states"),
        (
            {"objective": "gold", "teacher": SimpleNamespace(likelihood=len)},
            "a server tells no states",
        ),
        (
            {
                "objective": "gold",
                "teacher": SOMEWHERE,
                "on_policy_fraction": 0.5,
                "replay_buffer_size": 4,
            },
            "wants one tokenizer",
        ),
        (
            {
                "objective": "gold",
                "teacher": SOMEWHERE,
                "on_policy_fraction": 1,
                "rollout_sampling": "speculative",
            },
            "write together in the same",
        ),
        ({"objective": "qcrd", "on_policy_fraction": 1}, "rationales of a prompt are rows"),
        (
            {"objective": "ted", "teacher": SOMEWHERE, "options": {"projector_lr": 0}},
            "projector_lr=0 is out of range: above 0",
        ),
        ({"objective": "forward_kl"}, "a teacher= or teacher_cache= is needed"),
        ({"objective": "opd", "teacher_cache": SOMEWHERE}, "a teacher= is needed"),
        (
            {"objective": "grpo", "num_generations": 4},
            "the student's own samples: on_policy_fraction=1",
        ),
        ({"objective": "grpo", "on_policy_fraction": 1}, "num_generations=2 or more"),
        (
            {
                "objective": "grpo",
                "on_policy_fraction": 1,
                "num_generations": 2,
                "rollout_temperature": 0,
            },
            "greedy completions of a group",
        ),
        ({"objective": "dpo", "on_policy_fraction": 0.5}, "pairs are rows, not rollouts"),
        (
            {"objective": "jsd", "teacher_cache": SOMEWHERE, "on_policy_fraction": 0.5},
            "cached teacher logits belong to the rows",
        ),
        (
            {"objective": "sft", "on_policy_fraction": 1.5},
            "on_policy_fraction=1.5 is out of range: from 0 to 1 (on_policy_fraction=0.5)",
        ),
        (
            {"objective": "sft", "max_new_tokens": 0},
            "max_new_tokens=0 is out of range: 1 or more (max_new_tokens=256)",
        ),
        (
            {"loss_reduction": "foo"},
            "loss_reduction='foo' is not token or sequence or fixed (loss_reduction=token)",
        ),
        ({"rollout_sampling": "foo"}, "rollout_sampling='foo' is not student or speculative"),
        ({"mask_truncated_completions": 1}, "mask_truncated_completions=1 is not true or false"),
        (
            {"on_policy_fraction": "x"},
            "on_policy_fraction='x' is not a number (on_policy_fraction=0.5)",
        ),
        ({"on_policy_fraction": True}, "on_policy_fraction=True is not a number"),
        (
            {"num_generations": 0},
            "num_generations=0 is out of range: 1 or more (num_generations=4)",
        ),
        ({"num_generations": 2.5}, "num_generations=2.5 is not a whole number"),
        ({"rollout_temperature": -1}, "rollout_temperature=-1 is out of range"),
        (
            {"replay_buffer_size": 0.5},
            "replay_buffer_size=0.5 is not a whole number (replay_buffer_size=1000)",
        ),
        ({"eval_rows": 0.2}, "eval_rows=0.2 is not a whole number (eval_rows=20)"),
        ({"eval_steps": -1}, "eval_steps=-1 is out of range"),
        (
            {"objective": "ted", "teacher": SOMEWHERE, "options": {"layers": "x"}},
            "layers='x' is not a whole number",
        ),
        (
            {"reward": 5},
            "reward=5 is not a function or a text or names, each with a number or nothing",
        ),
        (
            {"schedule": "foo"},
            "schedule='foo' is not names, each with [a number, a number] (schedule={",
        ),
        ({"schedule": {"beta": [0]}, "objective": "redi"}, "schedule={'beta': [0]} is not names"),
        ({"schedule": {"kind": [0, 1]}, "objective": "dpo"}, "kind is not a number that can move"),
        ({"schedule": {"gamma": [0, 1]}, "objective": "dpo"}, "no constant gamma to move"),
        (
            {"objective": "implicit_cot", "options": {"rate": 8}},
            "no option rate (known: steps_per_epoch, per_epoch,",
        ),
        (
            {"objective": "implicit_cot", "options": {"per_epoch": "x"}},
            "per_epoch='x' is not a number (per_epoch=8.0)",
        ),
        (
            {"objective": "implicit_cot", "options": {"per_epoch": 0}},
            "per_epoch=0 is out of range: above 0",
        ),
        (
            {"objective": "implicit_cot", "on_policy_fraction": 0.5},
            "only given rows can be shortened",
        ),
        (
            {"objective": "dpo", "constants": {"beta": "abc"}},
            "beta='abc' is not a number (beta=0.1)",
        ),
        ({"objective": "dpo", "constants": {"beta": float("nan")}}, "beta=nan is not a number"),
        ({"objective": "dpo", "constants": {"beta": float("inf")}}, "beta=inf is not a number"),
        ({"objective": "dpo", "constants": {"beta": None}}, "beta=None is not a number"),
        (
            {"objective": "dpo", "constants": {"kind": "hing"}},
            "kind='hing' is not sigmoid or hinge or",
        ),
        (
            {"objective": "redi", "constants": {"alpha": True}},
            "alpha=True is not a number (alpha=0.8)",
        ),
        ({"objective": "ipo", "constants": {"normalised": 1}}, "normalised=1 is not true or false"),
        ({"objective": "uld", "constants": {"top": 0.5}}, "top=0.5 is not a whole number"),
        (
            {"objective": "jsd", "constants": {"tail": 3, "temperature": "x"}},
            "temperature='x' is not a number",
        ),
        (
            {"objective": "distillm2", "constants": {"anchor": "last"}},
            "is not a number or several of: a number or first",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_trained_is_refused(config, said):
    with pytest.raises(ConfigError) as error:
        ObjectiveConfig(**config)
    assert said in error.value.found


def test_all_complaints_come_at_once():
    with pytest.raises(ConfigError) as error:
        ObjectiveConfig("kdrl", {"x": 1}, on_policy_fraction=0.5)
    assert error.value.found.count(";") == 3


def test_what_is_of_a_right_kind_is_taken():
    """Numbers of either kind, nothing where nothing is a value, lists from YAML where a tuple is meant."""
    ObjectiveConfig(
        "grpo",
        {"clip": 1, "clip_high": None},
        on_policy_fraction=1,
        num_generations=2,
        reward={"verifier": 1},
    )
    ObjectiveConfig(on_policy_fraction=1, rollout_temperature=0)
    ObjectiveConfig("distillm2", {"anchor": "first"}, teacher=SOMEWHERE, schedule={"skew": [0, 1]})
    ObjectiveConfig("distillm2", {"anchor": [0.1, 0.2]}, teacher=SOMEWHERE)
    ObjectiveConfig(
        "implicit_cot",
        options={"per_epoch": 4, "smoothing": float("inf")},
        loss_reduction="sequence",
        eval_rows=2,
    )


@pytest.mark.parametrize("name", objectives.TABLE)
def test_the_defaults_are_of_their_kinds(name):
    assert not config_checks.constant_mistakes(name, objectives.constants(name))
    assert set(objectives.constant_types(name)) == set(objectives.constants(name))


def test_every_keyword_has_an_example_that_is_taken():
    import yaml

    checked = {rule.name: yaml.safe_load(rule.example) for rule in config_checks.FIELD_RULES}
    assert set(checked) == set(LOOP_KEYWORDS) - {
        "teacher",
        "teachers",
        "reference",
        "teacher_cache",
    }
    server = {"rollout_server": "http://a/v1", "rollout_weights_dir": "/w", "on_policy_fraction": 1}
    for name, value in checked.items():
        rest = {
            **dict.fromkeys(("rollout_backend", "rollout_sync_steps", *server), server),
            "on_policy_fraction": {},
            "rollout_tool": {"on_policy_fraction": 1},
            "max_tool_calls": {"on_policy_fraction": 1, "rollout_tool": "python"},
            "max_observation_tokens": {"on_policy_fraction": 1, "rollout_tool": "python"},
            "replay_buffer_size": {"on_policy_fraction": 0.5},
            "num_iterations": {"on_policy_fraction": 1},
            "schedule": {"teacher": "t"},
            "teacher_by": {"teachers": {"a": "a", "b": "b"}},
            "teacher_prompt_template": {"teacher": "t"},
            "difficulty_pools": {"on_policy_fraction": 1},
            "recheck_steps": {"on_policy_fraction": 1, "num_generations": 2},
            "max_resample_times": {"on_policy_fraction": 1, "num_generations": 2},
        }.get(name, {})
        objective = {"schedule": "jsd"}.get(name, "grpo" if "num_generations" in rest else "sft")
        config = bind(objective, {**rest, name: value}).config
        assert getattr(config, name) == value


@pytest.mark.parametrize(
    ("config", "typed", "written"),
    [
        (
            {"objective": "jsd"},
            "--teacher SPEC or --teacher-cache DIR for potstill train",
            "teacher= or teacher_cache= on a method's",
        ),
        (
            {"objective": "kdrl"},
            "--teacher SPEC, --set on_policy_fraction=1, --set num_generations=4 for potstill train",
            "teacher=, on_policy_fraction=1, num_generations=4 on a method's stage",
        ),
    ],
)
def test_what_mends_it_is_said_for_the_command_and_for_a_method(config, typed, written):
    with pytest.raises(ConfigError) as error:
        ObjectiveConfig(**config)
    assert typed in error.value.fix and written in error.value.fix


@pytest.mark.parametrize("name", objectives.TABLE)
def test_keywords_constants_options_and_settings_have_different_names(name):
    own = {*objectives.constants(name), *objectives.options(name)}
    assert not set(LOOP_KEYWORDS) & own
    assert not set(LOOP_KEYWORDS) & set(SETTINGS)
    assert not set(objectives.options(name)) & {*objectives.constants(name), *SETTINGS, *ALIASES}


def test_keywords_go_to_constants_loop_and_settings():
    model = SimpleNamespace(id="hf-1", weights=SOMEWHERE)
    found = bind(
        "jsd",
        {
            "beta": 0.2,
            "teacher": model,
            "on_policy_fraction": 0.5,
            "rollout_temperature": 0.7,
            "epochs": 2,
        },
    )
    assert found.config == ObjectiveConfig(
        "jsd", {"beta": 0.2}, teacher=SOMEWHERE, on_policy_fraction=0.5, rollout_temperature=0.7
    )
    assert found.settings == {"num_train_epochs": 2}, "a short name is understood"
    assert bind("jsd", {"temperature": 2.0, "teacher_cache": "here"}).config == ObjectiveConfig(
        "jsd", {"temperature": 2.0}, teacher_cache=Path("here")
    )


def test_clip_is_the_policy_objectives_and_the_gradients_elsewhere():
    policy = bind("grpo", {"clip": 0.3, "on_policy_fraction": 1, "num_generations": 2})
    assert policy.config.constants == {"clip": 0.3} and not policy.settings
    assert bind("redi", {"max_grad_norm": 0.3}).settings == {"max_grad_norm": 0.3}


def test_unknown_keywords_are_refused_with_all_there_are():
    with pytest.raises(ConfigError) as error:
        bind("redi", {"alhpa": 0.8})
    assert error.value.nearest == ("alpha",) and {"alpha", "teacher", "learning_rate"} <= set(
        error.value.available
    )


def test_a_teacher_without_weights_is_refused():
    with pytest.raises(ModelError, match="the teacher far has no weights"):
        bind("jsd", {"teacher": SimpleNamespace(id="far")})


def brevity(problem, text):
    return -float(len(text))


@pytest.mark.parametrize("change", ["LIMIT = 5", "def share(text):\n    return len(text)"])
def test_a_reward_is_known_by_the_constants_and_functions_that_it_names(tmp_path, change):
    source = "LIMIT = 3\ndef share(text):\n    return 1\n"
    source += "def brief(problem, text):\n    return LIMIT - share(text)\n"

    def load(name, code):
        file = tmp_path / f"{name}.py"
        file.write_text(code)
        spec = importlib.util.spec_from_file_location("rewards_of_a_user", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return reward_id(module.brief)

    assert load("one", source) != load("two", f"{source}{change}\n")


def test_a_reward_is_known_by_what_it_does():
    text = "def brevity(problem, text):\n    return 1.0\n"
    scope = {}
    exec(text, scope)
    assert reward_id(brevity) == reward_id(brevity) != reward_id(scope["brevity"])
    held = 5
    with pytest.raises(ConfigError, match="holds more than its source shows"):
        reward_id(lambda problem, text: held)
    assert reward_id(SimpleNamespace(id="brevity-100")) == "brevity-100"


@pytest.mark.slow
def test_a_pair_with_a_refused_side_is_left_out_and_counted(tmp_path, tiny_checkpoint):
    bad = pairs()
    for at, text in ((0, "  "), (1, "x <|im_end|> y")):
        rival = bad[at].rejected
        bad[at] = bad[at].annotate(
            rejected=Trace(rival.problem, rival.prompt, text=text, finish_reason="stop")
        )
    done = fit(
        bad,
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=1),
        config=ObjectiveConfig("redi"),
    )
    assert done.rows == 6 and done.skipped == {RIVAL_SKIPPED: 2}
    with pytest.raises(StageError, match="has no rival"):
        fit(
            rows(),
            tiny_checkpoint,
            tmp_path / "none",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig("redi"),
        )


@pytest.mark.slow
def test_pairs_of_the_same_text_are_left_out_and_counted(tmp_path, tiny_checkpoint):
    same = pairs()
    same[2] = same[2].annotate(
        rejected=Trace(same[2].problem, same[2].prompt, text=same[2].text, finish_reason="stop")
    )
    done = fit(
        same,
        tiny_checkpoint,
        tmp_path / "out",
        TrainingSettings(max_steps=1),
        config=ObjectiveConfig("simpo"),
    )
    assert done.rows == 7 and done.skipped == {SAME_TOKENS: 1}
    with pytest.raises(StageError, match="none of 1 pairs can be trained"):
        fit(
            same[2:3],
            tiny_checkpoint,
            tmp_path / "none",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig("simpo"),
        )


@pytest.mark.slow
def test_no_answer_is_cut_off_in_pairs_either(tmp_path, tiny_checkpoint):
    """Above `max_dropped_share`, rows that are too long stop the training: either side of a pair, and prompts alone."""
    long = pairs()
    rival = long[3].rejected
    long[3] = long[3].annotate(
        rejected=Trace(rival.problem, rival.prompt, text="Ned " * 600, finish_reason="stop")
    )
    with pytest.raises(
        StageError, match="1 of 8 rows longer than max_length=512: their answers would be cut off"
    ):
        fit(
            long,
            tiny_checkpoint,
            tmp_path / "a",
            TrainingSettings(max_steps=1),
            config=ObjectiveConfig("dpo"),
        )
    done = fit(
        long,
        tiny_checkpoint,
        tmp_path / "b",
        TrainingSettings(max_steps=1, max_dropped_share=0.2),
        config=ObjectiveConfig("dpo"),
    )
    assert done.rows == 7 and done.skipped == {RIVAL_SKIPPED: 1}


@pytest.mark.slow
def test_too_long_prompts_are_counted_and_refused(tmp_path, tiny_checkpoint):
    asked = [*rows(3), Trace(Problem("l", "q"), "shells " * 600)]
    config = ObjectiveConfig("sft", on_policy_fraction=1, max_new_tokens=4)
    with pytest.raises(StageError, match="1 of 4 rows longer than max_length=512"):
        fit(asked, tiny_checkpoint, tmp_path / "a", TrainingSettings(max_steps=1), config=config)
    done = fit(
        asked,
        tiny_checkpoint,
        tmp_path / "b",
        TrainingSettings(max_steps=1, max_dropped_share=0.5),
        config=config,
    )
    assert done.rows == 3 and done.skipped == {"longer than max_length": 1}


def test_steps_that_follow_different_texts_are_refused(tiny_checkpoint, tmp_path):
    (row,) = rows(1)
    sides = [
        dataclasses.replace(row, text=f"{text}7.", prefix_length=len(text))
        for text in ("Three and", "Two and")
    ]
    with pytest.raises(StageError, match="1 of 1 pairs"):
        fit(
            [sides[0].annotate(rejected=sides[1])],
            tiny_checkpoint,
            tmp_path / "out",
            TrainingSettings(),
            config=ObjectiveConfig("step_dpo"),
        )
