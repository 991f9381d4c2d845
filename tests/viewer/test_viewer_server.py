"""Who may ask, what is answered, and that looking leaves a run as it was."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from viewed_run import HOSTILE, make_run, open_reader

from potstill.errors import PotstillError
from potstill.store import Store
from potstill.viewer.answers import _PAGES, Answers, Parameters
from potstill.viewer.live import LiveStream
from potstill.viewer.notes import NotesFile
from potstill.viewer.query import parse_query, quote_value
from potstill.viewer.reader import RunReader
from potstill.viewer.run_folders import list_run_folders
from potstill.viewer.security import Guard

TOKEN = "t" * 40
GUARD = Guard(TOKEN, 7747)
GOOD = {"Host": "127.0.0.1:7747", "Authorization": f"Bearer {TOKEN}"}


def ask(reader: RunReader, path: str, **parameters: str) -> dict:
    answers = Answers({reader.run.name: reader}, takes_notes=True)
    return answers.answer(
        path.split("/"), Parameters({name: [value] for name, value in parameters.items()})
    )


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/api/runs", {}, None),
        ("GET", "/app/main.js", {"Authorization": ""}, None),
        ("GET", "/api/runs", {"Authorization": ""}, 401),
        ("GET", "/api/runs", {"Authorization": "Bearer wrong"}, 401),
        ("GET", "/", {"Host": "evil.com"}, 403),
        ("GET", "/", {"Host": "127.evil.com:7747"}, 403),
        ("GET", "/", {"Host": "127.0.0.1:7747.evil.com"}, 403),
        ("GET", "/", {"Host": "127.0.0.1:7748"}, 403),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/", {"Sec-Fetch-Site": "same-site"}, 403),
        ("GET", "/", {"Origin": "http://evil.com"}, 403),
        ("GET", "/", {"Origin": "http://127.0.0.1:7747"}, None),
        ("POST", "/api/runs", {}, 405),
        ("DELETE", "/api/run/x/notes", {}, 405),
        ("PUT", "/api/run/x", {}, 405),
        ("PUT", "/api/run/x/notes", {}, None),
        ("GET", "/", {"Host": "[::1]:7747"}, None),
    ],
)
def test_the_guard(method: str, path: str, headers: dict[str, str], status: int | None):
    refusal = GUARD.refuse(method, path, {**GOOD, **headers})
    assert (refusal.status if refusal else None) == status


def test_a_file_that_is_no_runs_names_no_runs_beside_it(tmp_path: Path):
    run, other = tmp_path / "run", tmp_path / "notes.txt"
    run.mkdir()
    for file in (run / "results.json", other):
        file.touch()
    assert list_run_folders([run / "results.json"]) == [run.resolve()]
    assert list_run_folders([other]) == []


def test_under_the_port_of_a_tunnel_it_is_said_what_to_do():
    refusal = GUARD.refuse("GET", "/", {"Host": "localhost:9001"})
    assert refusal is not None and "ssh -L 7747:127.0.0.1:7747" in refusal.fix
    assert "--trust-host localhost:9001" in refusal.fix


def test_the_overview_of_a_killed_run_has_its_funnel(reader: RunReader):
    overview = ask(reader, f"run/{reader.run.name}")
    assert overview["state"]["status"] == "killed"
    funnel = overview["funnels"]["orion"]
    lines = {step["operator"]: step for step in funnel["steps"]}
    assert (lines["keep"]["taken"], lines["keep"]["returned"], lines["keep"]["drops"]) == (6, 4, 2)
    for line in [*funnel["steps"], *funnel["reasons"]]:
        if line["query"]:
            listed = ask(reader, f"run/{reader.run.name}/traces", q=line["query"])
            assert listed["count"] == line["traces"], line["query"]


def test_a_trace_shows_its_descent_and_its_prompt(reader: RunReader):
    run = f"run/{reader.run.name}"
    [row, *_] = ask(reader, f"{run}/traces", q="operator:rewrite row:yes")["items"]
    trace = ask(reader, f"{run}/trace/{row['id']}")
    parts = [entry["part"] for column in trace["lineage"] for entry in column]
    assert parts == ["blank", "error", "teacher", "this"]
    statuses = [
        trace["members"][entry["id"]]["status"] for column in trace["lineage"] for entry in column
    ]
    assert statuses == ["blank", "wrong", "right", "right"]
    assert trace["rows"][0]["position"] == 0
    assert trace["prompt"]["writer"]["settings"] == {"temperature": 0.6}
    assert trace["author"]["role"] == "student"
    error = ask(reader, f"{run}/trace/{trace['lineage'][1][0]['id']}", q="answer")
    assert error["children"] == [{"id": row["id"], "operator": "rewrite"}]
    # Offsets are the browser's: behind a character of two units they are one further.
    units = error["text"].encode("utf-16-le", "surrogatepass")
    [start, stop] = error["hits"][0]
    assert units[2 * start : 2 * stop].decode("utf-16-le") == "answer"
    assert HOSTILE in error["text"]
    assert json.loads(json.dumps(error))["text"] == error["text"]


@pytest.mark.parametrize(
    "path", ["run/nobody", "run/{}/trace/../../etc", "run/{}/trace/trace-", "run/{}/x", "x"]
)
def test_what_is_not_there_is_said(reader: RunReader, path: str):
    with pytest.raises(PotstillError):
        ask(reader, path.format(reader.run.name))


@pytest.mark.slow
def test_looking_changes_nothing(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
    listing = folder.stat().st_mtime_ns
    reader = open_reader(folder, tmp_path / "index")
    ask(reader, "runs")
    [trace, *_] = ask(reader, f"run/{reader.run.name}/traces", q="row:yes")["items"]
    for page in (
        "",
        *sorted(_PAGES.keys() - {"trace", "problem", "rollouts"}),
        f"trace/{trace['id']}",
        "problem/p1",
    ):
        ask(reader, f"run/{reader.run.name}/{page}".rstrip("/"))
    list(LiveStream(Answers({reader.run.name: reader})).next_lines())
    after = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
    # Not even a file that comes and goes.
    assert (after, folder.stat().st_mtime_ns) == (before, listing)


@pytest.mark.slow
def test_a_damaged_store_says_what_mends_it(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    store = folder / "store.sqlite"
    store.write_bytes(b"no database " * 1000)
    reader = RunReader(
        open_reader(make_run(tmp_path / "other"), tmp_path / "index").run._replace(path=folder),
        tmp_path / "index",
    )
    with pytest.raises(PotstillError) as caught:
        ask(reader, f"run/{reader.run.name}/traces")
    assert caught.value.fix.startswith("mv ")
    assert ask(reader, "runs")["runs"][0]["state"]["status"] == "unreadable"


@pytest.mark.slow
def test_notes_mark_traces_and_change_no_run(tmp_path: Path):
    reader = open_reader(make_run(tmp_path / "run"), tmp_path / "index")
    answers = Answers({reader.run.name: reader}, takes_notes=True)
    name = reader.run.name
    [item, *_] = ask(reader, f"run/{name}/traces", q="row:yes")["items"]
    answers.add_note(["run", name, "notes"], {"trace": item["id"], "mark": "bad", "by": "ann"})
    answers.add_note(["run", name, "notes"], {"trace": item["id"], "mark": "good", "by": "ann"})
    assert NotesFile(reader.notes_path).marks() == {item["id"]: "good"}
    assert [one["id"] for one in ask(reader, f"run/{name}/traces", q="mark:good")["items"]] == [
        item["id"]
    ]
    for values in ({"trace": "trace-none", "mark": "good"}, {"trace": item["id"], "mark": "x"}, []):
        with pytest.raises(PotstillError):
            answers.add_note(["run", name, "notes"], values)


@pytest.mark.slow
def test_the_server_over_http(reader: RunReader):
    from aiohttp.test_utils import TestClient, TestServer
    from yarl import URL

    from potstill.viewer.server import Viewer

    async def talk() -> None:
        viewer = Viewer(Answers({reader.run.name: reader}), Guard(TOKEN, 0))
        async with TestClient(TestServer(viewer.application())) as client:
            assert (await client.get("/api/runs")).status == 401
            headers = {"Authorization": f"Bearer {TOKEN}"}
            answer = await client.get(f"/api/run/{reader.run.name}/traces", headers=headers)
            assert (await answer.json())["count"] == 24
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
            again = {**headers, "If-None-Match": answer.headers["ETag"]}
            assert (
                await client.get(f"/api/run/{reader.run.name}/traces", headers=again)
            ).status == 304
            assert (
                await client.put(f"/api/run/{reader.run.name}/notes", json={}, headers=headers)
            ).status == 403
            body = b"x" * 70_000
            json_headers = {**headers, "Content-Type": "application/json"}
            large = await client.put(
                f"/api/run/{reader.run.name}/notes", data=body, headers=json_headers
            )
            assert large.status == 413
            plain = await client.put(f"/api/run/{reader.run.name}/notes", data="x", headers=headers)
            assert plain.status == 415
            assert (await client.get("/app/../viewer/server.py")).status == 404
            for name in ("..%2F..%2Fmanifest.json", "trace-..%2Fmanifest.json"):
                address = URL(f"/api/run/{reader.run.name}/trace/{name}", encoded=True)
                assert (await client.get(address, headers=headers)).status == 404
            for method in ("POST", "DELETE"):
                assert (await client.request(method, "/api/runs", headers=headers)).status == 405
            for wrong in ({"Host": "127.evil.com"}, {"Sec-Fetch-Site": "cross-site"}):
                assert (await client.get("/api/runs", headers={**headers, **wrong})).status == 403
            page = await client.get("/", headers={"Host": "evil.com"})
            assert page.content_type == "text/plain" and "--trust-host" in await page.text()

    asyncio.run(talk())


@pytest.mark.slow
def test_no_lock_is_lost_by_asking_for_its_holder(tmp_path: Path):
    from potstill.viewer.run_state import read_state

    folder = make_run(tmp_path / "run")
    with Store.open(folder):
        assert read_state(folder).status == "running"
        assert read_state(folder).pid is not None
        assert read_state(folder).status == "running"


@pytest.mark.slow
@pytest.mark.parametrize("schema", [1, 2, 3])
def test_an_older_store_opens(tmp_path: Path, schema: int):
    tables = Path(__file__).parents[1] / "fixtures" / f"store_schema_{schema}.sql"
    (tmp_path / "run").mkdir()
    connection = sqlite3.connect(tmp_path / "run" / "store.sqlite")
    connection.executescript(tables.read_text("utf-8"))
    connection.close()
    reader = open_reader(tmp_path / "run", tmp_path / "index")
    listed = ask(reader, "run/run/traces")
    assert listed["count"] == 2
    for item in listed["items"]:
        assert ask(reader, f"run/run/trace/{item['id']}")["operator"] == item["operator"]
    for page in ("facets", "problems", "training", "costs", "journal"):
        ask(reader, f"run/run/{page}")


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_to_opens(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    folder.chmod(0o555)
    try:
        reader = open_reader(folder, tmp_path / "index")
        assert ask(reader, "run/run/traces")["count"] == 24
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    "name", ['or"ion', "<img onerror=x>", "a b:c", "\u202ex", "it's", "back\\slash", "-x", "*"]
)
def test_any_name_can_be_asked_for(name: str):
    query = parse_query(f"arm:{quote_value(name)} status:right", ["arm", "status"])
    assert [(one.field, one.values) for one in query.values] == [
        ("arm", (name,)),
        ("status", ("right",)),
    ]
