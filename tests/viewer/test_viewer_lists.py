"""Lists of traces: what a query finds, that counts are those of the store, that pages meet without gap or overlap."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from viewed_run import fill_orion, make_problems, make_run, open_reader

from potstill.store import Store
from potstill.viewer.index.calls import served_name
from potstill.viewer.index.indexer import Indexer, build_index
from potstill.viewer.query import parse_query
from potstill.viewer.reader import RunReader
from potstill.viewer.run_folders import find_runs
from potstill.viewer.selection import Chosen, Selection
from potstill.viewer.trace_lists import (
    PageRequest,
    make_order,
    read_anchors,
    read_facets,
    read_page,
)


def page(reader: RunReader, text: str = "", **request: object) -> dict:
    order = make_order(str(request.pop("sort", "made")), str(request.pop("order", "asc")))
    with reader.store() as store:
        return read_page(Selection(store, Chosen(text)), PageRequest(order, **request))


def test_words_find_what_sql_finds(reader: RunReader):
    with Store.open(reader.folder, readonly=True) as store:
        sql = "SELECT count(*) FROM traces WHERE record LIKE '%answer%' AND record LIKE '%is 6%'"
        [(expected,)] = store.database.read(sql)
    found = page(reader, "answer 6")
    assert found["count"] == expected == 6
    excerpt = found["items"][0]["excerpt"]
    hits = [
        excerpt["text"].encode("utf-16-le", "surrogatepass")[2 * a : 2 * b]
        for a, b in excerpt["hits"]
    ]
    assert {hit.decode("utf-16-le") for hit in hits} == {"answer", "6"}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 24),
        ("operator:rewrite", 6),
        ("operator:rewrite row:yes", 4),
        ('dropped:"keep sound"', 2),
        ('reason:"as another trace"', 2),
        ("status:wrong,blank", 12),
        ("author:teacher -status:wrong", 6),
        ('"20 - 14 = 6"', 7),
        ("tak* -shells", 6),
        ("question:shells operator:rewrite", 6),
        ("'14 = 6. <img'", 6),
        ("wrong_steps:>0 first_wrong:2", 6),
        ("score.steps:1 operator:sample", 6),
        ("seconds:0.5 cost:<0.01", 18),
        ("steps:none", 6),
        ("arm:nobody", 0),
    ],
)
def test_a_query_finds(reader: RunReader, text: str, count: int):
    found = page(reader, text)
    assert (len(found["items"]), found["messages"]) == (count, [])


def test_what_is_not_understood_is_said_and_the_rest_answered():
    query = parse_query("colour:red tokens:many = answer", ["status"])
    assert [message.level for message in query.messages] == ["error", "error", "info"]
    assert query.words[0].words == ("answer",)


@pytest.mark.parametrize("sort", ["made", "tokens", "score.steps", "seconds", "id"])
def test_pages_meet(reader: RunReader, sort: str):
    whole = [item["key"] for item in page(reader, sort=sort, order="desc")["items"]]
    seen, cursor = [], ""
    while cursor is not None:
        part = page(reader, sort=sort, order="desc", after=cursor, limit=5)
        seen += [item["key"] for item in part["items"]]
        cursor = part["next"]
    assert seen == whole
    last = page(reader, sort=sort, order="desc", after="end", limit=5)
    assert [item["key"] for item in last["items"]] == whole[-5:]
    before = page(reader, sort=sort, order="desc", before=last["previous"], limit=5)
    assert [item["key"] for item in before["items"]] == whole[-10:-5]


def test_a_count_that_needs_a_look_at_every_trace_is_left_to_the_facets(reader: RunReader):
    assert page(reader, "operator:rewrite", limit=2)["count"] == 6
    assert page(reader, "answer", limit=2)["count"] is None


def test_a_call_that_comes_after_its_trace_was_read_is_found_all_the_same(tmp_path: Path):
    folder = make_run(tmp_path / "run", problems=1)
    reader = open_reader(folder, tmp_path / "index")
    with Store.open(folder) as store, store.database.transaction() as connection:
        connection.execute("UPDATE completions SET rowid = rowid + 100, seconds = 7, served = 'S'")
    build_index(reader)
    assert page(reader, "seconds:7")["count"] == 3
    with reader.store() as store:
        assert served_name(store.database, "model-student") == "S"


def test_facets_sum_to_the_count(reader: RunReader):
    with reader.store() as store:
        chosen = Chosen("answer", {"status": ["wrong"], "author": ["student"]})
        facets = read_facets(Selection(store, chosen, {}))
    assert facets["count"] == 6
    for facet in facets["facets"]:
        if not facet["is_multiple"]:
            assert sum(value["count"] for value in facet["values"]) == 6, facet["name"]
    assert facets["ranges"][0]["name"] == "tokens"


def test_anchors_say_where_the_list_is(reader: RunReader):
    with reader.store() as store:
        anchors = read_anchors(Selection(store, Chosen()), make_order("made", "asc"))
    assert anchors["anchors"] == [None] and anchors["count"] == 24


@pytest.mark.slow
def test_an_arm_begun_anew_takes_its_old_entries_away(tmp_path: Path):
    reader = open_reader(make_run(tmp_path / "run"), tmp_path / "index")
    with Store.open(tmp_path / "run") as store:
        fill_orion(store, make_problems(2), finish=False)
        build_index(reader)
        # Read beside the writer, as a viewer does.
        found = page(reader)
        assert found["count"] == 8
        for item in found["items"]:
            with reader.store() as beside:
                sql = "SELECT id FROM made WHERE seq = ?"
                assert beside.database.read(sql, (item["key"],)) == [(item["id"],)]


@pytest.mark.slow
def test_a_request_sees_one_state_of_the_store_and_its_index(tmp_path: Path):
    reader = open_reader(make_run(tmp_path / "run"), tmp_path / "index")
    with Store.open(tmp_path / "run") as store:
        with reader.store() as beside:
            selection = Selection(beside, Chosen())
            assert selection.count() == 24
            fill_orion(store, make_problems(2), finish=False)
            build_index(reader)
            [(made,)] = beside.database.read("SELECT count(*) FROM made")
            assert made == sum(Selection(beside, Chosen()).count_by_group.values()) == 24
        assert page(reader)["count"] == 8


@pytest.mark.slow
def test_no_portion_is_begun_while_a_request_is_answered(tmp_path: Path):
    [run] = find_runs([make_run(tmp_path / "run")]).values()
    reader = RunReader(run, tmp_path / "index")
    indexer = Indexer({run.name: reader})
    indexer.ask_for(run.name)
    with indexer.held():
        indexer.start()
        time.sleep(0.5)
        assert reader.index.progress_mark() == 0
    while page(reader)["indexed"]["words"] < 1:
        time.sleep(0.01)
    indexer.close()
