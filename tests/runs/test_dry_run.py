"""A plan: stand-ins count what a method asks, a pilot measures, and nothing is paid without one."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from potstill.budget.prices import built_in_prices
from potstill.errors import ConfigError, ModelError
from potstill.models.model import Request
from potstill.records import Problem, blank
from potstill.runs import estimate as estimating
from potstill.runs import stand_in
from potstill.runs.dry_run import (
    Assumptions,
    choose_problems,
    drive_with_stand_ins,
    parse_assumptions,
    with_number_answer,
)
from potstill.runs.estimate import Need, Plan, make_plan
from potstill.runs.experiment import execute, load_recipe_problems
from potstill.runs.recipe import Recipe, from_data
from potstill.runs.sources import CHECKPOINTS
from potstill.traces import edit, read_sections, sample, verify

ROLES = {"teacher": "openai:gpt-4.1-mini?at=openai", "student": "world:student"}
BASE: dict[str, Any] = {
    "method": "sft",
    "roles": ROLES,
    "problems": "world:story?size=60",
    "values": {"n": 3},
}


def planned(data: Mapping[str, Any], out: Path, **assume: str) -> Plan:
    return make_plan(from_data(data), out, parse_assumptions(assume))


def asked(plan: Plan) -> list[Need]:
    """What is needed but for what trainings ask."""
    return [need for need in plan.needs if not need.role.endswith("/training")]


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket opens, no model is loaded, no key is there."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a plan without a pilot asks nobody")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket.socket, "connect_ex", refused)
    monkeypatch.setattr(estimating, "open_run", refused)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_calls_tokens_and_money_of_a_method_that_asks_as_often_as_it_says(tmp_path: Path) -> None:
    found = planned(
        {**BASE, "values": {"n": 3, "max_new_tokens": 700}},
        tmp_path / "out",
        completion="400",
        chars="5",
    )
    [teacher] = asked(found)
    assert (teacher.role, teacher.calls, teacher.completion, teacher.max_completion) == (
        "teacher",
        180,
        72_000,
        126_000,
    )
    problems, _ = load_recipe_problems(from_data(BASE))
    exact = sum(len(str(t.prompt)) for t in problems) * 3 / 5
    assert teacher.prompt == pytest.approx(exact, rel=0.1)  # scaled up from a few
    price = built_in_prices()["gpt-4.1-mini"]
    assert teacher.money == pytest.approx(
        (teacher.prompt * price.prompt + 72_000 * price.completion) / 1e6, rel=1e-3
    )
    assert teacher.limit == pytest.approx(
        (teacher.prompt * price.prompt + 126_000 * price.completion) / 1e6, rel=1e-3
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_is_assumed_right_decides_rows_and_calls(tmp_path: Path) -> None:
    none, half, all_ = (planned(BASE, tmp_path, right=share) for share in ("0", "0.5", "1"))
    assert none.rows == {"sft": 0} and all_.rows == {"sft": 180}
    assert 60 < half.rows["sft"] < 120
    orion = {**BASE, "method": "orion", "values": {"n": 4}}
    sure = {
        n.role: n.calls
        for n in planned(orion, tmp_path, **{"teacher.right": "1", "student.right": "0.9"}).needs
    }
    weak = {
        n.role: n.calls
        for n in planned(orion, tmp_path, **{"teacher.right": "1", "student.right": "0.1"}).needs
    }
    assert sure["teacher"] == weak["teacher"] == 60
    assert sure["student"] < weak["student"]  # rewrites that fail are asked for again


def test_a_method_that_stops_before_its_first_stage_says_why_in_the_plan(tmp_path: Path) -> None:
    orion = {**BASE, "method": "orion", "values": {"n": 4}}
    plan = planned(orion, tmp_path, right="1")
    assert plan.rows == {"orion": 0}
    assert "none of 96 attempts is wrong" in plan.assumptions["orion stopped"]
    assert [need.role for need in plan.needs] == ["student"]  # the teacher would not be asked


def test_arms_share_what_they_ask_in_common(tmp_path: Path) -> None:
    two = {
        **BASE,
        "arms": {"sft": {"method": "sft"}, "again": {"method": "sft", "training": {"lr": 1e-3}}},
    }
    del two["method"]
    assert [n.calls for n in asked(planned(two, tmp_path))] == [
        n.calls for n in asked(planned(BASE, tmp_path))
    ]


def test_measuring_is_counted(tmp_path: Path) -> None:
    data = {**BASE, "evaluate": {"problems": "world:story?split=test&size=10", "n": 2}}
    found = planned(data, tmp_path)
    untrained, trained = asked(found)[1:]
    # Behind its measurement the trained student answers the problems of the rows that the report shows: here six.
    assert (untrained.role, untrained.calls) == ("student/evaluation", 20)
    assert (trained.role, trained.calls) == ("student/evaluation", 20 + 6)
    assert all(n.money == 0 for n in found.needs[1:])


def test_training_disk_and_every_assumption_are_said(tmp_path: Path) -> None:
    found = planned(BASE, tmp_path, **{"teacher.right": "1"})
    size = found.training["sft"]
    assert size.steps == 3 * -(-180 // 16)
    assert found.disk["students"] == 4 * size.parameters
    assert found.disk["store"] > found.needs[0].completion
    told = found.to_json()["assumptions"]
    assert {
        "right",
        "chars",
        "completion",
        "teacher.right",
        "steps",
        "memory",
    } <= set(told)
    assert found.measured == {}


def test_a_model_without_a_price_and_one_of_ones_own(tmp_path: Path) -> None:
    roles = {**ROLES, "teacher": "openai:mine?url=https://example.invalid/v1"}
    assert planned({**BASE, "roles": roles}, tmp_path).needs[0].money is None
    prices = {"mine": {"prompt": 0, "completion": 1}}
    assert planned({**BASE, "roles": roles, "prices": prices}, tmp_path).needs[
        0
    ].money == pytest.approx(0.18)
    local = {**ROLES, "teacher": "openai:gpt-4.1-mini?url=http://127.0.0.1:1/v1"}
    assert planned({**BASE, "roles": local}, tmp_path).needs[0].money == 0
    batched = planned({**BASE, "batch": True}, tmp_path).needs[0]
    assert batched.money == pytest.approx(planned(BASE, tmp_path).needs[0].money / 2)


def test_problems_are_chosen_by_hash_and_a_larger_choice_holds_the_smaller() -> None:
    problems, _ = load_recipe_problems(from_data(BASE))
    few, more = choose_problems(problems, 5), choose_problems(problems, 20)
    assert len(few) == 5 and set(few) <= set(more) and few != problems[:5]
    assert choose_problems(list(reversed(problems)), 5) == list(reversed(few))


@pytest.mark.slow
def test_a_dry_drive_repeats_itself() -> None:
    recipe: Recipe = from_data({**BASE, "method": "orion", "values": {"n": 4}})
    problems, _ = load_recipe_problems(recipe)
    one, two = (drive_with_stand_ins(recipe, problems, [], parse_assumptions({})) for _ in range(2))
    assert one.arms == two.arms
    prompts = [{g: sorted(c.prompts) for g, c, _ in driven.groups} for driven in (one, two)]
    assert prompts[0] == prompts[1]


@pytest.mark.parametrize(
    ("assume", "said"),
    [
        ({"rihgt": "1"}, "nothing is assumed about 'rihgt'"),
        ({"right": "x"}, "not a number"),
        ({"right": "2"}, "right=2"),
    ],
)
def test_wrong_assumptions_are_refused(assume: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_assumptions(assume)


def test_a_role_has_its_own_assumptions_over_those_of_all() -> None:
    made = parse_assumptions({"right": "0.7", "teacher.completion": "9"})
    assert made == {"": Assumptions(right=0.7), "teacher": Assumptions(right=0.7, completion=9.0)}


METHODS = """
from potstill.models.model import Model, Trainable
from potstill.records import Stage
from potstill.traces import keep, note, right, sample, verify


def twice(problems, teacher: Model, student: Trainable, judge_of_steps: Model = None, *, n: int = 2):
    "Two stages: the second learns what the first one's student gets right."
    chains = keep(right, verify(sample(teacher, problems)))
    student = yield Stage(student, chains, "sft")
    yield Stage(student, keep(right, verify(sample(student, problems, n=n))), "sft")


def endless(problems, teacher: Model, student: Trainable):
    "A search that never ends."
    for attempt in range(10_000_000):
        sample(teacher, problems, sample_index=attempt)
    yield Stage(student, [], "sft")


def outspoken(problems, teacher: Model, student: Trainable):
    "A method that says what it does without."
    note("no problem has a date")
    note("no problem has a date")
    yield Stage(student, sample(teacher, problems), "sft")


def unreadable(problems, teacher: Model, student: Trainable):
    "A method that reads what no stand-in writes."
    yield Stage(student, [t for t in sample(teacher, problems) if t.text.split("###")[1]], "sft")
"""


@pytest.fixture
def method(tmp_path: Path):
    (tmp_path / "mine.py").write_text(METHODS)
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


def test_later_stages_are_counted_and_so_is_measuring_what_they_make(tmp_path, method) -> None:
    tests = {"problems": "world:story?split=test&size=10", "n": 3}
    data = {**BASE, "method": method("twice"), "values": {}, "evaluate": tests}
    plan = planned(data, tmp_path, right="1")
    assert plan.rows == {"twice/1": 60, "twice/2": 120} and plan.unreached == []
    assert [(need.role, need.model, need.calls) for need in asked(plan)] == [
        ("teacher", ROLES["teacher"], 60),
        ("student", "the trained students", 120),
        ("student/evaluation", "world:student", 30),
        # And of the six example rows, two of which are of one problem.
        ("student/evaluation", "the trained students", 30 + 5),
    ]
    assert set(plan.training) == {"twice/1", "twice/2"}


def test_answers_to_rows_problems_are_planned_as_many_as_there_are(tmp_path, method) -> None:
    data = {**BASE, "method": method("twice"), "values": {}}
    for rows, calls in ((20, 20), (1000, 55)):
        plan = planned({**data, "evaluate": {"rows": rows}}, tmp_path / str(rows), right="1")
        more = [need.calls for need in asked(plan) if need.role == "student/evaluation"]
        assert more == [calls]


@pytest.mark.slow
def test_what_a_method_says_of_the_run_stands_in_its_plan_and_in_its_results(
    tmp_path, method
) -> None:
    script = tmp_path / "script.json"
    script.write_text('["It is 4."]')
    roles = {"teacher": f"scripted:{script}", "student": f"scripted:{script}"}
    data = {**BASE, "method": method("outspoken"), "values": {}, "roles": roles, "limit": 2}
    sentence = "outspoken: no problem has a date"
    assert planned(data, tmp_path / "plan").notes.count(sentence) == 1
    announced: list[str] = []
    results = execute(
        from_data(data), tmp_path / "run", threads=1, rows_only=True, announce=announced.append
    )
    assert results.notes.count(sentence) == 1
    first_call = next(line for line in announced if "sample" in line)
    assert announced.index(sentence) < announced.index(first_call)


@pytest.mark.parametrize(
    ("name", "assume", "message"),
    [
        ("twice", {"right": "0"}, "twice stops before its first stage"),
        ("twice", {"student.right": "0"}, "twice stops after stage 1"),
        ("unreadable", {}, "before its first stage.* made-up answers end in IndexError"),
        ("endless", {}, "before its first stage.* no end in sight"),
    ],
)
def test_what_a_plan_could_not_reach_it_says_first(
    tmp_path, method, monkeypatch, name, assume, message
) -> None:
    monkeypatch.setattr(stand_in, "MAX_CALLS", 500)
    plan = planned({**BASE, "method": method(name), "values": {}}, tmp_path, **assume)
    [sentence] = plan.unreached
    assert re.search(message, sentence)
    assert plan.needs[0].calls > 0  # what was asked still counts


@pytest.mark.parametrize(
    ("assume", "right", "unparsed"),
    [({}, 0.5, 0.05), ({"right": "0.2", "unparsed": "0.4"}, 0.2, 0.4)],
)
def test_stand_ins_are_right_wrong_and_unparsed_at_the_assumed_shares(
    assume: dict[str, str], right: float, unparsed: float
) -> None:
    table = stand_in.CallTable()
    model = stand_in.StandIn("teacher", parse_assumptions(assume), table, weights=Path("nowhere"))
    problem = Problem("p", "What is it?", stand_in.RIGHT_ANSWER, kind="number")
    statuses = Counter(t.verdict.status for t in verify(sample(model, [blank(problem)] * 1000)))
    assert statuses["right"] / 1000 == pytest.approx(right, abs=0.05)
    assert statuses["unparsed"] / 1000 == pytest.approx(unparsed, abs=0.05)


def test_a_chain_that_grows_by_paragraphs_comes_to_its_answer() -> None:
    table = stand_in.CallTable()
    assume = {"": Assumptions(right=1.0, completion=200)}
    model = stand_in.StandIn("teacher", assume, table, weights=Path("nowhere"))
    problem = Problem("p", "What is it?", stand_in.RIGHT_ANSWER, kind="number")
    [chain] = sample(model, [blank(problem)], stop=("\n\n",))
    pieces = 1
    while "boxed" not in chain.text:
        [chain] = sample(model, [edited(chain)], stop=("\n\n",))
        pieces += 1
    assert 3 < pieces < 50 and verify([chain])[0].verdict.status == "right"


def edited(chain):
    """The chain with the paragraph's end that the stop string took."""
    return edit(lambda trace: trace.text + trace.stop_string, [chain])[0]


@pytest.mark.parametrize(
    ("prompt", "pattern"),
    [
        ("Is the step right? Answer yes or no.", r"^(Yes|No)\. |^I can't"),
        ("End with `Verdict: right` or `Verdict: wrong`.", r"^Verdict: (right|wrong)$|^I can't"),
        ("End with `Score: N`, N a whole number from 2 to 9.", r"^Score: [29]$|^I can't"),
        (
            "`Better: first`, `Better: second` or `Better: tie`.",
            r"^Better: (first|second)$|^I can't",
        ),
    ],
)
def test_a_stand_in_answers_a_judges_prompt_in_its_form(prompt: str, pattern: str) -> None:
    assume = parse_assumptions({"completion": "2"})
    model = stand_in.StandIn("judge", assume, stand_in.CallTable(), weights=Path("nowhere"))
    for completion in model.write([Request(prompt, sample_index=i) for i in range(20)]):
        assert re.search(pattern, completion.text.strip(), re.MULTILINE), completion.text


def test_a_stand_in_writes_the_sections_that_a_prompt_names() -> None:
    assume = parse_assumptions({"completion": "200", "right": "1", "unparsed": "0"})
    model = stand_in.StandIn("teacher", assume, stand_in.CallTable(), weights=Path("nowhere"))
    request = Request("<idea>how one comes to it</idea>\n<key_step>the step</key_step>\n2 < 3 <b>")
    [completion] = model.write([request])
    sections = read_sections(completion.text, ("idea", "key_step"))
    assert sections is not None and sections["key_step"].endswith("\\boxed{1000003}.")
    assert 600 < len(completion.text) < 900
    assert not stand_in.named_sections("<think>A thought.</think> So <b>4</i>.")


def test_a_solution_that_a_method_judges_is_right_in_a_plan() -> None:
    [trace] = [blank(Problem("p", "What is 2 + 2?", "4", "math", "Two and two are four."))]
    trace = with_number_answer(trace)
    solved = edit(lambda view: view.problem.solution, [trace])
    assert verify(solved)[0].verdict.status == "right"
    assert with_number_answer(blank(Problem("p", "2 + 2?", "4"))).problem.solution is None


def test_each_model_of_a_list_is_asked_for_its_own_first_sample(tmp_path: Path) -> None:
    file = Path(__file__).parents[1] / "fixtures" / "gsm8k_like.jsonl"
    names = ("6b_finetuning", "175b_finetuning")
    reasoners = [f"recorded:{file}?model={name}" for name in names]
    data = {
        "method": "lema",
        "roles": {"teacher": "world:teacher", "student": "world:student", "reasoners": reasoners},
        "problems": str(file),
        "values": {"settings": {"attempts": 1}},
    }
    needs = {need.role: need.calls for need in asked(planned(data, tmp_path))}
    assert needs["reasoners"] == 2 * 20


def test_a_stand_in_answers_in_the_form_of_the_last_worked_example() -> None:
    prompt = "Step: 1\nWhy: so.\n\nStep: 2\nWhy: no.\n\nGo on.\n\nStep:"
    assert stand_in.last_worked_example(prompt) == "2\nWhy: no.\n"
    assert stand_in.last_worked_example("Go on.\n\nStep:") == ""
    assert stand_in.last_worked_example("Step: 2\n\nWhat is the sum?") == ""


def test_the_calls_of_a_judge_are_counted(tmp_path: Path) -> None:
    rows = [{"question": f"Say {i}.", "answer": "x"} for i in range(30)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    roles = {**ROLES, "judge": "openai:gpt-4.1-mini?at=openai"}
    data = {**BASE, "roles": roles, "problems": str(tmp_path / "p.jsonl"), "kind": "judge"}
    needs = {need.role: need.calls for need in asked(planned({**data, "values": {}}, tmp_path))}
    assert needs == {"teacher": 30, "judge": 30}


def training_needs(
    training: dict[str, Any], out: Path, **parts: Any
) -> dict[tuple[str, str], Need]:
    """By role and model, what trainings ask."""
    plan = planned({**BASE, "training": training, **parts}, out, right="1")
    return {(n.role, n.model): n for n in plan.needs if n.role.endswith("/training")}


STUDENT = ("student/training", "world:student")
ROLLOUTS = ("student/training", "the trained students")


def test_a_training_reads_a_sample_of_its_rows(tmp_path: Path) -> None:
    [(account, need)] = training_needs({}, tmp_path).items()
    assert account == STUDENT and need.calls == 64 and need.completion == 0


def test_rollouts_verdicts_and_a_teacher_in_a_training_are_counted(tmp_path: Path) -> None:
    grpo = {
        "objective": "grpo",
        "on_policy_fraction": 1.0,
        "num_generations": 4,
        "max_new_tokens": 32,
        "reward": "verifier",
    }
    training = {"max_steps": 20, "batch_size": 2, "objective_config": grpo}
    rows = [{"question": f"Say {i}.", "answer": "x"} for i in range(30)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    roles = {**ROLES, "judge": "openai:gpt-4.1-mini?at=openai"}
    parts = {"problems": str(tmp_path / "p.jsonl"), "kind": "judge", "roles": roles}
    needs = training_needs(training, tmp_path, **parts)
    written = 20 * 2 * 4
    evaluated = 8 * (20 // 10 + 1)  # before steps 0 and 10, and at the end
    assert needs[ROLLOUTS].calls == written + evaluated
    assert needs[ROLLOUTS].max_completion == 32 * (written + evaluated)
    judge = needs["judge/training", roles["judge"]]
    assert judge.calls == written and judge.money and judge.money > 0


def test_a_teacher_on_a_server_reads_each_text_of_a_training_once(tmp_path: Path) -> None:
    roles = {**ROLES, "teacher": "openai:m?url=http://127.0.0.1:9/v1&score=prompt_logprobs"}
    config = {"objective": "opd", "teacher": "teacher", "on_policy_fraction": 1.0}
    training = {"max_steps": 5, "batch_size": 4, "objective_config": config}
    needs = training_needs(training, tmp_path, roles=roles)
    assert needs["teacher/training", roles["teacher"]].calls == 5 * 4
    local = {**config, "objective": "jsd", "on_policy_fraction": 0.0}
    training = {**training, "objective_config": local}
    needs = training_needs(training, tmp_path, roles={**ROLES, "teacher": "world:teacher"})
    assert needs["teacher/training", "weights here"].calls == 5


def test_what_a_local_teacher_reads_takes_no_disk(tmp_path: Path) -> None:
    teacher = str(CHECKPOINTS / "teacher")
    config = {"objective": "jsd", "teacher": teacher}
    training = {"max_steps": 1000, "objective_config": config}
    plan = planned({**BASE, "training": training}, tmp_path, right="1")
    [need] = [need for need in plan.needs if need.model == "weights here"]
    assert (need.role, need.calls, need.money) == ("teacher-weights/training", 1000, 0)
    assert plan.disk["store"] < 2 * planned(BASE, tmp_path, right="1").disk["store"]


def test_problems_that_the_run_will_drop_are_not_counted(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n} and {n}?", "answer": str(2 * n)} for n in range(30)]
    for name, part in (("p", rows), ("t", rows[:10])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data = {
        **BASE,
        "problems": str(tmp_path / "p.jsonl"),
        "evaluate": {"problems": str(tmp_path / "t.jsonl"), "n": 1},
        "overlap": "drop",
    }
    plan = planned(data, tmp_path)
    assert plan.problems == 20 and plan.needs[0].calls == 60


def test_a_setting_that_a_server_does_not_have_stops_the_plan_as_it_stops_the_run(
    tmp_path: Path,
) -> None:
    roles = {"teacher": ROLES["teacher"], "student": "openai:gpt-4.1-nano?at=openai"}
    recipe = {**BASE, "method": "orion", "roles": roles, "values": {"n": 2}}
    with pytest.raises(ModelError, match="does not know the setting repetition_penalty"):
        make_plan(from_data(recipe), tmp_path / "out", parse_assumptions({}), rows_only=True)
    penalty = {"repetition_penalty": 1}
    settings = {"exposure_sampling": penalty, "reflection_sampling": penalty}
    recipe["values"] = {"n": 2, "settings": settings}
    plan = make_plan(from_data(recipe), tmp_path / "out", parse_assumptions({}), rows_only=True)
    assert {need.role for need in plan.needs} == {"student", "teacher"}


def test_a_stand_in_writes_headings_and_lists_where_a_prompt_asks_for_them() -> None:
    assume = parse_assumptions({"completion": "50", "right": "1", "unparsed": "0"})
    model = stand_in.StandIn("editor", assume, stand_in.CallTable(), weights=Path("nowhere"))
    asked = ("Write **Analysis:** and **Solution:** of it.", "Write a numbered list of steps.")
    headed, listed = model.write([Request(prompt) for prompt in asked])
    assert headed.text.startswith("**Analysis:** ") and "\n**Solution:** " in headed.text
    assert headed.text.endswith(f"\\boxed{{{stand_in.RIGHT_ANSWER}}}.")
    assert [line[:3] for line in listed.text.splitlines()] == ["1. ", "2. ", "3. "]
