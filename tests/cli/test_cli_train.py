"""potstill train and cache-teacher: rows of many layouts, every objective's needs, cached logits used again."""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the extra potstill[local]")

from potstill.cli import main
from potstill.cli.rows import pose_problems, read_rows
from potstill.errors import ConfigError, InputError
from potstill.runs.train_settings import read_keywords
from potstill.store import Store

QUESTIONS = [f"Ned has {10 + i} shells. How many?" for i in range(4)]
TURN = {"role": "user", "content": QUESTIONS[0]}
ROWS = {
    "completion": {"prompt": QUESTIONS[0], "completion": "10."},
    "messages": {"messages": [TURN, {"role": "assistant", "content": "10."}]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": QUESTIONS[0]}, {"from": "gpt", "value": "10."}]
    },
    "alpaca": {"instruction": QUESTIONS[0], "input": "", "output": "10."},
    "preference": {"prompt": QUESTIONS[0], "chosen": "10.", "rejected": "11, no."},
    "implicit": {
        "chosen": [TURN, {"role": "assistant", "content": "10."}],
        "rejected": [TURN, {"role": "assistant", "content": "11, no."}],
    },
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("layout", ROWS)
def test_the_usual_layouts_are_one_row(tmp_path, layout):
    (found,) = read_rows(write(tmp_path / "rows.jsonl", [ROWS[layout]])).traces
    assert (found.prompt, found.text, found.finish_reason) == (QUESTIONS[0], "10.", "stop")
    assert (found.rejected.text if found.rejected else "") == (
        "11, no." if layout in ("preference", "implicit") else ""
    )


def run(capsys, *words):
    code = main(list(map(str, words)))
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.slow
def test_a_run_without_an_arm_names_its_arms(finished, tmp_path, potstill):
    words = ["train", "--rows", finished, "--student", "world:student", "--out", tmp_path / "out"]
    unnamed = potstill(*words)
    assert (
        unnamed.code == 2 and "no arm is named" in unnamed.err and "available: sft" in unnamed.err
    )
    misspelt = potstill(*words, "--arm", "stf")
    assert misspelt.code == 2 and "nearest:   sft" in misspelt.err


def test_a_label_stays_with_its_completion(tmp_path):
    told = [
        {"prompt": "a", "completion": "b", **more}
        for more in ({"label": False}, {"label": True}, {"label": None})
    ]
    rows = write(tmp_path / "rows.jsonl", told)
    kept = read_rows(rows, keep_wrong=True).traces
    assert [dict(row.scores) for row in kept] == [{"label": 0.0}, {"label": 1.0}, {}]
    right = read_rows(rows)
    assert [dict(row.scores) for row in right.traces] == [{"label": 1.0}, {}]
    assert right.notes == ["1 rows are not learnt: the file labels them wrong"]


def test_weights_of_rows_and_of_stretches_are_read(tmp_path):
    told = [
        {"prompt": "a", "completion": "one two", "weight": 0.5, "spans": [[0, 3, 2], [4, 7, 0]]},
        ROWS["completion"],
    ]
    weighted, plain = read_rows(write(tmp_path / "rows.jsonl", told)).traces
    assert (weighted.weight, [(s.start, s.stop, s.weight) for s in weighted.spans]) == (
        0.5,
        [(0, 3, 2.0), (4, 7, 0.0)],
    )
    assert (plain.weight, plain.spans) == (1.0, ())


BAD = [
    ({"weight": "heavy"}, "weight is 'heavy'"),
    ({"weight": True}, "weight is True"),
    ({"spans": [[0, 99, 1]]}, "[0, 99, 1]"),
    ({"spans": [[0, 1, -1]]}, "[0, 1, -1]"),
    ({"spans": ["one"]}, "'one'"),
    ({"prompt": [{"role": "robot", "content": "a"}]}, "line 1: a turn's role is 'robot'"),
    ({"completion": None}, "completion is None"),
    ({"completion": 5}, "completion is 5"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD)
def test_a_bad_row_says_what_is_bad_and_no_column_that_is_right_is_renamed(tmp_path, wrong, said):
    with pytest.raises(InputError) as error:
        read_rows(
            write(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "one two", **wrong}])
        )
    assert said in error.value.found and "line 1" in error.value.found
    assert "rename the columns" not in error.value.fix


@pytest.mark.slow
def test_entries_are_kept_once_and_distilled_from(tmp_path, tiny_checkpoint, capsys):
    rows = write(
        tmp_path / "rows.jsonl", [{"prompt": q, "completion": f"{q} 1 + 2 = 3."} for q in QUESTIONS]
    )
    kept, student = tmp_path / "teacher_cache", f"transformers:{tiny_checkpoint}"
    words = (
        "cache-teacher",
        "--rows",
        rows,
        "--teacher",
        student,
        "--k",
        32,
        "--out",
        kept,
        "--quiet",
        "--json",
    )
    code, out, err = run(capsys, *words)
    told = json.loads(out)
    assert code == 0 and not err and told["rows"] == 4 and 192 < told["bytes_per_token"] < 600
    assert told["gib_per_million_tokens"] == round(told["bytes_per_token"] * 1e6 / 2**30, 3)
    assert run(capsys, *words)[1] == out, "a second time nothing is done"
    words = (
        "train",
        "--rows",
        rows,
        "--start",
        tiny_checkpoint,
        "--objective",
        "forward_kl",
        "--teacher-cache",
        kept,
    )
    code, out, _ = run(
        capsys, *words, "--set", "max_steps=2", "--out", tmp_path / "kd", "--quiet", "--json"
    )
    told = json.loads(out)
    assert code == 0 and told["objective"] == "forward_kl" and told["steps"] == 2
    assert told["loss_first_tenth"] == pytest.approx(0, abs=1e-3), "the teacher is the student"


def test_constants_and_settings_find_their_place(tmp_path, tiny_checkpoint, capsys):
    rows = write(tmp_path / "rows.jsonl", [{**ROWS["preference"], "prompt": q} for q in QUESTIONS])
    words = (
        "train",
        "--rows",
        rows,
        "--student",
        f"transformers:{tiny_checkpoint}",
        "--objective",
        "redi",
        "--quiet",
    )
    code, out, _ = run(
        capsys,
        *words,
        "--set",
        "alpha=0.5",
        "--set",
        "max_steps=1",
        "--out",
        tmp_path / "a",
        "--json",
    )
    assert code == 0 and {"better", "worse"} <= set(json.loads(out)["stats"])
    code, _, err = run(capsys, *words, "--set", "alfa=0.5", "--out", tmp_path / "b")
    assert code == 2 and "unknown setting 'alfa' (nearest: alpha)" in err
    code, _, err = run(capsys, *words[:-2], "forward_kl", "--out", tmp_path / "b")
    assert code == 2 and "a teacher= or teacher_cache= is needed" in err
    code, _, err = run(capsys, *words[:-2], "rdi", "--out", tmp_path / "b")
    assert code == 2 and "no objective 'rdi'" in err and "nearest:   redi" in err
    assert not (tmp_path / "b").exists()


def test_help_names_the_objectives(capsys):
    code, out, _ = run(capsys, "train", "--help")
    assert code == 0 and all(
        name in out for name in ("sft", "redi", "forward_kl", "kdrl", "on_policy_fraction")
    )


@pytest.mark.parametrize("more", [{"weight": 0.5}, {"spans": [[0, 1, 2]]}])
def test_weights_of_pairs_are_refused(tmp_path, more):
    with pytest.raises(InputError, match="line 1: a pair with " + min(more)):
        read_rows(write(tmp_path / "rows.jsonl", [{**ROWS["preference"], **more}]))
    unweighted = {**ROWS["preference"], "weight": 1, "spans": []}
    assert read_rows(write(tmp_path / "rows.jsonl", [unweighted])).traces


def test_a_prefix_is_how_the_answer_begins(tmp_path):
    """Steps that follow the same text, in each layout; spans and weights are those of the completion still."""
    for layout in ("completion", "messages", "preference", "implicit"):
        row = {**ROWS[layout], "prefix": "So: ", "finish": "length"}
        (found,) = read_rows(write(tmp_path / "rows.jsonl", [row])).traces
        for one in (found, *([found.rejected] if found.rejected else [])):
            assert (
                one.text[: one.prefix_length] == "So: "
                and one.new in ("10.", "11, no.")
                and one.finish_reason == "length"
            )
    row = {**ROWS["completion"], "prefix": "So: ", "spans": [[0, 2, 0.5]]}
    (found,) = read_rows(write(tmp_path / "rows.jsonl", [row])).traces
    assert found.text[found.spans[0].start : found.spans[0].stop] == "10"
    with pytest.raises(InputError, match="line 1: prefix is 3"):
        read_rows(write(tmp_path / "rows.jsonl", [{**ROWS["completion"], "prefix": 3}]))


@pytest.mark.slow
def test_a_step_is_learnt_without_what_it_follows(tmp_path, tiny_checkpoint, capsys):
    counted = {}
    for name, prefix in (("bare", ""), ("step", "Ned has ten shells, so ")):
        rows = [
            {**ROWS["preference"], "prompt": q, "prefix": prefix, "finish": "length"}
            for q in QUESTIONS
        ]
        path, student = write(tmp_path / f"{name}.jsonl", rows), f"transformers:{tiny_checkpoint}"
        words = (
            "train",
            "--rows",
            path,
            "--student",
            student,
            "--objective",
            "step_dpo",
            "--out",
            tmp_path / name,
        )
        code, out, err = run(capsys, *words, "--set", "max_steps=1", "--quiet", "--json")
        told = json.loads(out)
        assert code == 0 and not err and {"better", "worse", "margin"} <= set(told["stats"])
        counted[name] = (told["loss_tokens"], told["tokens"])
    assert counted["step"][0] == counted["bare"][0] and counted["step"][1] > counted["bare"][1]


@pytest.mark.slow
def test_a_teacher_behind_a_server_is_enough_where_it_scores(
    tmp_path, tiny_checkpoint, capsys, monkeypatch
):
    from potstill.models.local.transformers import TransformersModel
    from potstill.runs import sources

    class Behind:
        """What a server looks like: likelihoods, and no weights here."""

        id, _local = "behind-a-wire", TransformersModel(tiny_checkpoint)

        def write(self, requests):
            raise AssertionError("a teacher that scores is asked for no text")

        def likelihood(self, pairs):
            return self._local.likelihood(pairs)

    near = sources.load_model
    monkeypatch.setattr(
        sources,
        "load_model",
        lambda spec, **how: Behind() if spec == "openai:m" else near(spec, **how),
    )
    rows = write(tmp_path / "rows.jsonl", [{"question": q, "answer": "10"} for q in QUESTIONS])
    words = (
        "train",
        "--rows",
        rows,
        "--student",
        f"transformers:{tiny_checkpoint}",
        "--teacher",
        "openai:m",
    )
    words += (
        "--set",
        "on_policy_fraction=1",
        "--set",
        "max_new_tokens=6",
        "--set",
        "max_steps=2",
        "--quiet",
        "--json",
        "--objective",
    )
    code, out, err = run(capsys, *words, "opd", "--out", tmp_path / "far")
    assert code == 0 and not err
    assert json.loads(out)["stats"]["k1"][0] == pytest.approx(0, abs=1e-3), (
        "the teacher is the student"
    )
    with Store.open(tmp_path / "far.cache", readonly=True) as store:
        assert store.usage("train")["teacher/training"]["calls"] > 0
    limited = ("--budget", "teacher=1tok", "--out", tmp_path / "limited")
    code, out, _ = run(capsys, *words, "opd", *limited)
    assert code == 2 and "the budget of the teacher is spent" in out
    code, out, _ = run(capsys, *words, "jsd", "--out", tmp_path / "jsd")
    assert code == 2 and "the teacher behind-a-wire has no weights" in out


def test_a_row_without_a_rival_is_named_by_its_line_or_left_out(tmp_path, tiny_checkpoint, capsys):
    pair, single = {**ROWS["preference"], "prompt": "Ned?"}, ROWS["completion"]
    rows = write(tmp_path / "rows.jsonl", [pair, single])
    words = (
        "train",
        "--rows",
        rows,
        "--student",
        tiny_checkpoint,
        "--objective",
        "redi",
        "--quiet",
        "--json",
    )
    words = (*words, "--set", "max_steps=1", "--out", tmp_path / "out")
    code, out, _ = run(capsys, *words)
    message = json.loads(out)["error"]["message"]
    assert code == 2 and "rows.jsonl, line 2: no pair of a better and a worse completion" in message
    code, out, _ = run(capsys, *words, "--skip-bad")
    assert code == 0 and json.loads(out)["rows"] == 1 and json.loads(out)["bad"]


def train(capsys, tmp_path, start, rows, *words, out="out"):
    words = (
        "train",
        "--rows",
        rows,
        "--student",
        start,
        "--out",
        tmp_path / out,
        "--quiet",
        *words,
    )
    return run(capsys, *words)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("beta=3", "unknown setting 'beta'"),
        ("optimiser=adamw", "(nearest: optimizer)"),
        ("per_epoch=8", "unknown setting 'per_epoch'"),
        ("num_generations.x=1", "num_generations: expected a whole number, found {'x': 1}"),
        (
            "loss_reduction=foo",
            "loss_reduction: expected one of 'token', 'sequence', 'fixed', found 'foo'",
        ),
        ("training.beta=3", "training.beta: unknown setting 'beta'"),
        ("training.objective_config=3", "training.objective_config is for recipes"),
    ],
)
def test_mistakes_in_set_without_constants_are_told_as_well(
    tmp_path, tiny_checkpoint, capsys, told, said
):
    rows = write(tmp_path / "rows.jsonl", [ROWS["completion"]])
    code, _, err = train(capsys, tmp_path, tiny_checkpoint, rows, "--set", told)
    assert code == 2 and said in err and "--set" in err and not (tmp_path / "out").exists()


def test_a_mapping_of_the_loop_may_be_given_by_its_names(tmp_path):
    settings, keywords = read_keywords(
        "jsd",
        ["schedule.beta=[0, 1]", "reward.verifier=1", "reward.form=2", "lora.r=4"],
    )
    assert keywords == {"schedule": {"beta": (0.0, 1.0)}, "reward": {"verifier": 1, "form": 2}}
    assert settings.lora is not None and settings.lora.r == 4


def test_kept_entries_that_are_not_there_are_told_with_what_makes_them(
    tmp_path, tiny_checkpoint, capsys
):
    rows = write(tmp_path / "rows.jsonl", [ROWS["completion"]])
    words = ("--objective", "forward_kl", "--teacher-cache", tmp_path / "nosuch")
    code, _, err = train(capsys, tmp_path, tiny_checkpoint, rows, *words)
    assert (
        code == 2
        and f"no cached teacher logits in {tmp_path / 'nosuch'}" in err
        and "potstill cache-teacher --rows" in err
    )


def test_no_more_entries_are_kept_than_there_are(tmp_path, tiny_checkpoint, capsys):
    rows = write(tmp_path / "rows.jsonl", [ROWS["completion"]])
    words = (
        "cache-teacher",
        "--rows",
        rows,
        "--teacher",
        f"transformers:{tiny_checkpoint}",
        "--k",
        100000,
        "--quiet",
    )
    vocabulary = json.loads((tiny_checkpoint / "config.json").read_text())["vocab_size"]
    code, out, _ = run(capsys, *words, "--out", tmp_path / "teacher_cache")
    assert code == 0 and f"k is {vocabulary:,}, which is all" in out
    assert (
        json.loads((tmp_path / "teacher_cache" / "teacher_cache.json").read_text())["k"]
        == vocabulary
    )
    code, out, _ = run(capsys, *words, "--out", tmp_path / "teacher_cache", "--json")
    assert code == 0 and json.loads(out)["k"] == vocabulary, "and it is known again"


@pytest.mark.slow
def test_problems_are_asked_by_the_prompt_that_is_given(tmp_path, tiny_checkpoint, capsys):
    rows = write(tmp_path / "rows.jsonl", [{"question": QUESTIONS[0], "answer": "10"}])
    assert [trace.prompt for trace in pose_problems(rows, 0, prompt="So: {question}")] == [
        f"So: {QUESTIONS[0]}"
    ]
    on = (
        "--set",
        "on_policy_fraction=1",
        "--set",
        "max_new_tokens=4",
        "--set",
        "max_steps=1",
        "--json",
    )
    code, out, _ = train(capsys, tmp_path, tiny_checkpoint, rows, *on, "--prompt", "So: {question}")
    (note,) = json.loads(out)["notes"]
    assert (
        code == 0
        and json.loads(out)["cut_rollouts"] == 1
        and "100% of what the student wrote was cut" in note
    )
    code, out, _ = train(capsys, tmp_path, tiny_checkpoint, rows, *on)
    assert code == 2 and "holds a student of other" in out, "another prompt is another student"
    rows = write(tmp_path / "given.jsonl", [ROWS["completion"]])
    code, _, err = train(
        capsys, tmp_path, tiny_checkpoint, rows, "--prompt", "So: {question}", out="b"
    )
    assert code == 2 and "is for problems" in err
    renamed = {"ask": QUESTIONS[0], "say": "10.", "other": 1}
    rows = write(tmp_path / "renamed.jsonl", [renamed])
    mapping = ("--map", "question=ask", "--map", "completion=say", "--set", "max_steps=1", "--json")
    code, out, _ = train(capsys, tmp_path, tiny_checkpoint, rows, *mapping, out="mapped")
    assert code == 0 and json.loads(out)["columns"]["completion"] == "say"
    stored = json.loads((tmp_path / "mapped" / "columns.json").read_text())
    assert stored == {"renamed.jsonl": {"mapping": json.loads(out)["columns"], "unread": ["other"]}}
    rows = write(tmp_path / "rows.jsonl", [{"question": QUESTIONS[0], "answer": "10"}])
    code, out, _ = train(capsys, tmp_path, tiny_checkpoint, rows, *on, "--map", "answer=", out="c")
    assert code == 0 and json.loads(out)["rows"] == 1, (
        "prompts without gold answers are asked as well"
    )


def test_problems_alone_are_not_enough_for_a_share_of_rollouts(tmp_path, tiny_checkpoint, capsys):
    rows = write(tmp_path / "rows.jsonl", [{"question": QUESTIONS[0], "answer": "10"}])
    code, _, err = train(capsys, tmp_path, tiny_checkpoint, rows, "--set", "on_policy_fraction=0.5")
    assert code == 2 and "a share learns rows too" in err and "--set on_policy_fraction=1" in err


@pytest.mark.slow
def test_a_loss_of_the_students_own_text_on_given_rows_is_noted(tmp_path, tiny_checkpoint, capsys):
    rows = write(tmp_path / "rows.jsonl", [ROWS["completion"]])
    words = ("--objective", "opd", "--teacher", tiny_checkpoint, "--set", "max_steps=1", "--json")
    code, out, _ = train(capsys, tmp_path, tiny_checkpoint, rows, *words)
    (note,) = json.loads(out)["notes"]
    assert (
        code == 0
        and "only from what the student itself wrote" in note
        and "on_policy_fraction=1" in note
    )
    code, out, _ = train(
        capsys, tmp_path, tiny_checkpoint, rows, "--set", "max_steps=1", "--json", out="plain"
    )
    assert code == 0 and json.loads(out)["notes"] == []


@pytest.mark.slow
def test_losses_are_told_as_means_over_tenths(tmp_path, tiny_checkpoint, capsys):
    rows = write(
        tmp_path / "rows.jsonl", [{"prompt": q, "completion": f"{q} 1."} for q in QUESTIONS]
    )
    words = ("--set", "max_steps=20", "--set", "batch_size=1", "--set", "lr=1e-3")
    code, out, _ = train(capsys, tmp_path, tiny_checkpoint, rows, *words, "--json")
    told = json.loads(out)
    losses = told["losses"]
    assert code == 0 and len(losses) == 20 and losses[0] != losses[1]
    assert told["loss_first_tenth"] == pytest.approx(sum(losses[:2]) / 2, abs=1e-4)
    assert told["loss_last_tenth"] == pytest.approx(sum(losses[-2:]) / 2, abs=1e-4)
    assert told["stats"]["nll"] == pytest.approx([sum(losses[:2]) / 2, sum(losses[-2:]) / 2])
    code, out, _ = train(capsys, tmp_path, tiny_checkpoint, rows, *words)
    assert code == 0 and "first tenth" in out and "loss_last_tenth" in out


def test_two_values_under_both_names_of_a_setting_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="give learning_rate two values; give one"):
        read_keywords("sft", ["training.lr=1", "learning_rate=2"])
