"""How alike two queries are: by letters, and by what their clauses say."""

from __future__ import annotations

import pytest

from potstill.records import Problem
from potstill.verifiers.sql.similarity import QuerySimilarity, compare_queries, read_clauses
from potstill.verifiers.sql.verifier import compare_with_gold

GOLD = "SELECT name, age FROM people WHERE age > 30 AND city = 'Oslo' ORDER BY age"


def test_clauses_are_parts_outside_of_brackets_without_case_and_blanks():
    assert read_clauses(GOLD) == {
        "SELECT": {"name", "age"},
        "FROM": {"people"},
        "WHERE": {"age > 30", "city = 'Oslo'"},
        "ORDER": {"age"},
    }
    nested = (
        "select A.id, count(*)\nfrom a inner join b on a.x = b.x where id in (select id from c, d)"
    )
    assert read_clauses(nested) == {
        "SELECT": {"a . id", "count ( * )"},
        "FROM": {"a"},
        "JOIN": {"b"},
        "ON": {"a . x = b . x"},
        "WHERE": {"id in ( select id from c , d )"},
    }


@pytest.mark.parametrize(
    ("candidate", "clauses"),
    [
        (GOLD.lower().replace("oslo", "Oslo"), 1.0),
        ("SELECT age, name FROM people WHERE city='Oslo' AND age > 30 ORDER BY age ASC;", 1.0),
        ("SELECT name FROM people", (2 / 3 + 1 + 0 + 0) / 4),
        (GOLD + " LIMIT 1", 4 / 5),
        ("SELECT name, age FROM (people", (1 + 0 + 0 + 0) / 4),
        ("No query.", 0.0),
        ("", 0.0),
    ],
)
def test_the_score_of_clauses_is_the_mean_of_their_f1(candidate, clauses):
    assert compare_queries(GOLD, candidate).clauses == pytest.approx(clauses)


def test_the_score_of_letters_is_that_of_difflib_over_one_blank_between_words():
    assert compare_queries("SELECT a", "SELECT\n  a").text == 1
    assert compare_queries("abcd", "bcde").text == 2 * 3 / 8


def test_a_texts_query_is_compared_with_the_gold_one_of_an_sql_problem():
    problem = Problem("p", "Who?", GOLD, kind="table")
    written = Problem("p", "Who?", '[["Ada"]]', kind="table", solution=GOLD)
    text = f"<think>SELECT x</think>\n```sql\n{GOLD}\n```"
    assert compare_with_gold(problem, text) == compare_with_gold(written, text) == (1, 1)
    for other in (
        Problem("p", "Who?", GOLD, kind="exact"),
        Problem("p", "Who?", "[]", kind="table"),
    ):
        assert compare_with_gold(other, text) == QuerySimilarity(0, 0)
    assert compare_with_gold(problem, "I do not know.") == (0, 0)
