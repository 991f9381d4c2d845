"""Sparks, exactly: which explanations of gold queries are learnt, and by what the student's own are rewarded."""

from __future__ import annotations

import json

import pytest
from scripted_world import NOWHERE, number, prompts, run, script
from world_run import run_on_world

from potstill.errors import StageError
from potstill.methods.programs.sparks import RewardWeights
from potstill.models.scripted import ScriptedModel
from potstill.records import Problem, blank
from potstill.runs.cast import Cast

PEOPLE = json.dumps(
    {"people": [{"name": "Ada", "age": 36}, {"name": "Max", "age": 9}, {"name": "Eva", "age": 40}]}
)
OLDEST = "SELECT name FROM people WHERE age > 10 ORDER BY age DESC"
STEPS = """FROM: the table people has the names.
**WHERE**: only ages above 10 are asked for.
3. SELECT: the name answers "who".
ORDER BY age: the oldest comes first."""


def table(name, question, query, **fields):
    problem = Problem(name, question, query, kind="table", table=PEOPLE, **fields)
    return blank(problem, f"Tables: people\n{question}")


P1, P2 = (
    table("p1", "Who is over 10?", OLDEST),
    table("p2", "How many?", "SELECT count(*) FROM people"),
)


def explain(request):
    """A step for each clause of those queries, differently worded each time."""
    words = request.random_seed("words")
    clauses = ("FROM", "WHERE", "SELECT")
    return "\n".join(f"{clause}: because of {words}." for clause in clauses)


def tables(size):
    return [
        table(f"t{age}", f"Who is over {age}?", f"SELECT name FROM people WHERE age > {age}")
        for age in range(size)
    ]


CAST = Cast(problems=tables, models={"teacher": ScriptedModel(explain, name="explainer")})


def sparks(problems=(P1, P2), **values):
    teacher = script({P1.question: STEPS, P2.question: "FROM: people.\nSELECT: their number."})
    pupil = script({"": "?"}, weights=NOWHERE)
    return run("sparks", list(problems), {"teacher": teacher, "student": pupil}, **values), teacher


def test_a_gold_query_is_learnt_behind_a_step_for_each_clause_then_queries_are_rewarded():
    ran, teacher = sparks()
    first, second = ran.stages
    assert [(stage.name, stage.objective) for stage in ran.stages] == [
        ("queries", "sft"),
        ("rewards", "grpo"),
    ]
    assert ran.texts(0)["p1"] == [f"<think>\n{STEPS}\n</think>\n```sql\n{OLDEST}\n```"]
    assert all(row.saw_gold and row.verdict.status == "right" for row in first.rows)
    assert ran.prompts_learnt(0) == [P1.prompt, P2.prompt]
    asked = prompts(teacher)
    assert len(asked) == 2 and f"Query:\n{OLDEST}" in asked[0] and "CREATE TABLE" in asked[0]
    assert [row.id for row in second.rows] == [P1.id, P2.id]
    parts = {"verifier": 1.0, "query_text": 1.0, "query_clauses": 1.0}
    assert second.constants["reward"] == parts and second.constants["num_generations"] == 6


def test_an_explanation_that_leaves_a_clause_out_or_has_seen_the_query_is_no_row():
    replies = {
        "Who is 1?": "It sorts people.",
        "Who is 2?": STEPS.replace("**WHERE**", "Then"),
        "Who is 3?": STEPS + "\nSo it is the given query.",
        "Who is 4?": {"text": STEPS, "finish": "length"},
        "Who is 5?": "<think>FROM: x",
        "Who is 6?": f"<think>Hm.</think>{STEPS}",
        "Who is 7?": f"{STEPS}\nLIMIT: one row is asked for.",
    }
    posed = [table(question, question, OLDEST) for question in replies]
    pupil = script({"": "?"}, weights=NOWHERE)
    ran = run("sparks", posed, {"teacher": script(replies), "student": pupil}, arm="sft")
    assert list(ran.texts()) == ["Who is 6?"] and "Hm." not in ran.rows[0].text
    reasons = list(ran.reasons().values())
    assert reasons == [
        ["not finished"],
        ["take_reply returned nothing"],
        ["mentions 'given query'"],
        [
            "no step for FROM, ORDER BY, SELECT, WHERE",
            "no step for WHERE",
            "the query has no LIMIT",
        ],
    ]


def test_controls_leave_out_the_rewards_the_rows_or_the_explanations():
    assert len(sparks(arm="sft")[0].stages) == 1
    ran, teacher = sparks(arm="rl")
    assert [stage.name for stage in ran.stages] == ["rewards"] and not teacher.calls
    ran, teacher = sparks(arm="no-cot", weights=RewardWeights(letters=0))
    assert ran.texts(0)["p1"] == [f"```sql\n{OLDEST}\n```"] and not teacher.calls
    assert ran.stages[1].constants["reward"] == {"verifier": 1.0, "query_clauses": 1.0}


def test_only_problems_with_a_gold_query_that_runs_are_learnt():
    other, rows = number("n", "What is 2 + 2?", "4"), table("r", "Who?", '["Ada"]')
    solved = table("s", "How many?", "3", solution="SELECT count(*) FROM people")
    broken = table("b", "How many?", "SELECT count(*) FROM nowhere")
    ran, _ = sparks(problems=[other, rows, solved, broken], arm="no-cot")
    assert list(ran.texts(0)) == ["s"]
    assert ran.reasons()["has_query"] == ["a problem of the kind number", "no gold query"]
    with pytest.raises(StageError, match="none of 2 problems has one"):
        sparks(problems=[other, rows])


@pytest.mark.slow
def test_it_runs_on_tables_of_its_own(tmp_path):
    """The built-in world has no tables: three problems, a scripted teacher, and the world's student, rewarded too."""
    pytest.importorskip("torch", reason="needs the extra potstill[local]")
    problems, teacher = tmp_path / "tables.jsonl", tmp_path / "teacher.json"
    lines = [
        {"question": t.question, "answer": t.problem.answer, "table": PEOPLE} for t in tables(3)
    ]
    problems.write_text("\n".join(map(json.dumps, lines)))
    teacher.write_text(json.dumps([STEPS.rpartition("\n")[0]]))
    # So far from what the world's student has learnt, half precision rounds too much.
    sets = ["rollouts.num_generations=2", "rollouts.max_new_tokens=16", "training.dtype=float32"]
    run = run_on_world(
        tmp_path, "sparks", roles=[f"teacher=scripted:{teacher}"], sets=sets, problems=problems
    )
    assert len(run.rows["queries"]) == 3
    assert all(
        "```sql\nSELECT name FROM people" in row["completion"] for row in run.rows["queries"]
    )
