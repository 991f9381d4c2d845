"""The shipped fake says exactly what it was told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.errors import InputError, ModelError
from potstill.models.model import Completion, Request, Sampling, Trainable
from potstill.models.scoring import Passage
from potstill.models.scripted import Rule, ScriptedModel
from potstill.records import Message


def _text(model: ScriptedModel, prompt: str = "q", **fields: object) -> str:
    [completion] = model.write([Request(prompt, **fields)])  # type: ignore[arg-type]
    return completion.text


def test_answers_are_taken_in_turn_and_asking_again_moves_on() -> None:
    model = ScriptedModel(["a", "b", "c"])
    assert [_text(model, sample_index=d) for d in (0, 1, 2, 3, 1_000_000, 1_000_001)] == [
        "a",
        "b",
        "c",
        "a",
        "b",
        "c",
    ]


def test_every_call_is_recorded() -> None:
    model = ScriptedModel(["a"])
    model.write([Request("one"), Request("two")])
    model.likelihood([("one", "x y")])
    assert [request.prompt for request in model.calls] == ["one", "two"]
    assert model.scored == [Passage("one", "x y")]


def test_the_first_matching_rule_answers() -> None:
    model = ScriptedModel(
        [Rule(("exact",), prompt="one"), Rule(("ends so",), pattern=r"done\.$"), Rule(("else",))]
    )
    assert _text(model, "one") == "exact"
    assert _text(model, "two", prefix="It is done.") == "ends so"
    assert _text(model, "two") == "else"


def test_messages_match_by_their_last_user_turn_or_as_rendered() -> None:
    model = ScriptedModel(
        [Rule(("system seen",), pattern="system: be brief"), Rule(("turn",), prompt="one")]
    )
    with_system = (Message("system", "be brief"), Message("user", "one"))
    assert [
        c.text for c in model.write([Request(with_system), Request((Message("user", "one"),))])
    ] == [
        "system seen",
        "turn",
    ]


def test_a_prompt_without_a_rule_names_the_rules() -> None:
    with pytest.raises(ModelError) as caught:
        ScriptedModel({"one": "1", "two": "2"}).write([Request("three")])
    assert "no rule for the prompt 'three'" in caught.value.found
    assert caught.value.available == ("one", "two")


def test_settings_cut_the_answer() -> None:
    model = ScriptedModel(["one two three STOP four"])
    [limited] = model.write([Request("q", sampling=Sampling(max_new_tokens=2))])
    assert (limited.text, limited.finish_reason, limited.tokens.completion) == (
        "one two",
        "length",
        2,
    )
    [stopped] = model.write([Request("q", sampling=Sampling(stop=("STOP",)))])
    assert (stopped.text, stopped.finish_reason) == ("one two three ", "stop_string")
    assert stopped.stop_string == "STOP"


def test_an_answer_may_say_how_it_ends_or_fail() -> None:
    model = ScriptedModel(
        [{"text": "cut", "finish": "length"}, {"error": "timeout"}, Completion("given", "stop")]
    )
    cut, failed, given = model.write([Request("q", sample_index=d) for d in range(3)])
    assert (cut.text, cut.finish_reason) == ("cut", "length")
    assert (failed.text, failed.finish_reason, failed.error) == ("", "", "timeout")
    assert given.text == "given"


def test_a_function_sees_the_request() -> None:
    model = ScriptedModel(lambda request: f"{request.prompt}/{request.sample_index}", name="echo")
    assert _text(model, "q", sample_index=7) == "q/7"


def test_failures_depend_on_the_request_alone() -> None:
    model = ScriptedModel(["fine"], fail=0.3)
    requests = [Request(f"q{i}") for i in range(40)]
    failed = {r.prompt for r, c in zip(requests, model.write(requests)) if c.error}
    again = {r.prompt for r, c in zip(requests[::-1], model.write(requests[::-1])) if c.error}
    assert failed == again and 3 < len(failed) < 25


def test_the_id_covers_everything_that_moves_an_answer() -> None:
    models = [
        ScriptedModel(["a"]),
        ScriptedModel(["b"]),
        ScriptedModel(["a"], fail=0.1),
        ScriptedModel(["a"], seed=1),
        ScriptedModel(["a"], name="n"),
        ScriptedModel({"p": "a"}),
    ]
    ids = {model.id for model in models}
    assert len(ids) == 6
    assert ScriptedModel(["a"]).id == ScriptedModel(["a"]).id


def test_it_can_be_trained_only_when_given_weights(tmp_path: Path) -> None:
    assert not isinstance(ScriptedModel(["a"]), Trainable)
    assert isinstance(ScriptedModel(["a"], weights=tmp_path), Trainable)


def test_likelihoods_are_fixed_and_one_a_word() -> None:
    [a, b], [longer] = (
        ScriptedModel(["x"]).likelihood([("p", "19 - 14 = 5"), ("q", "19")]),
        ScriptedModel(["x"]).likelihood([("p", "19 - 2")]),
    )
    assert len(a) == 5 and len(b) == 1 and all(-5 <= value < 0 for value in a)
    assert longer[:2] == a[:2] and longer[2] != a[2] and b[0] != a[0]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.json", '{"one": ["1", 2]}', "not an answer, for 'one': 2"),
        ("a.json", '{"rules": [], "fails": 1}', "unknown key 'fails'"),
        ("a.json", "[{]", "line 1, column 3: not JSON"),
        ("a.jsonl", '{"pattern": "x", "answers": ["y"]}\n{"pattern": "x"}\n', "not a rule"),
        ("a.jsonl", '{"pattern": "x", "answers": ["y"]}\n{\n', "line 2, column 2: not JSON"),
        ("a.jsonl", '{"pattern": "(", "answers": ["y"]}', "not a regular expression"),
        ("a.yaml", "rules: [}", "not YAML"),
        ("a.yaml", "", "is empty"),
        ("a.json", '{"one": []}', "no answers for 'one'"),
    ],
)
def test_a_broken_script_says_what_is_wrong(
    tmp_path: Path, name: str, text: str, found: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=found.replace("(", r"\(")) as caught:
        ScriptedModel.load(tmp_path / name)
    assert caught.value.fix


def test_what_a_function_closed_over_is_in_the_id_as_it_was_at_first() -> None:
    def model(limit: int) -> ScriptedModel:
        answered: list[str] = []

        def answer(request: Request) -> str:
            answered.append(request.prompt)
            return "x" * limit

        return ScriptedModel(answer)

    one = model(3)
    one.write([Request("q")])
    assert one.id == model(3).id != model(5).id
