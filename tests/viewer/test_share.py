"""A copy of a run: it says what the server says, holds no secret, and can't be made by accident."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from leaky_run import SECRET_VARIABLE, SECRETS, make_leaky_run
from viewed_run import HOSTILE, STAGE, make_run, open_reader

from potstill.errors import ConfigError, InputError
from potstill.evaluation.results import Results
from potstill.training.rollout_log import KeptRollout, RolloutLog
from potstill.viewer.answers import Answers, Parameters
from potstill.viewer.reader import RunReader
from potstill.viewer.share import make
from potstill.viewer.share.cleaner import DOT, Cleaner
from potstill.viewer.share.make import ShareRequest, make_copy
from potstill.viewer.share.pack import Packer
from potstill.viewer.utf16 import utf16_length


def unpack(table: dict[str, Any], place: int) -> Any:
    """As share.js does it."""
    entry = table["values"][place]
    if not isinstance(entry, list):
        return entry
    parts = [unpack(table, place + part if part < 0 else part) for part in entry[1:]]
    if entry[0] == 0:
        return parts
    return dict(zip(table["shapes"][entry[0] - 1], parts, strict=True))


def decode(text: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(text)))
    return table


def read_data(page: str) -> dict[str, dict[str, Any]]:
    """The tables of a copy by the names of their elements."""
    pattern = r'<script type="application/json" id="([\w-]+)"[^>]*>([^<]*)</script>'
    return {name: decode(text) for name, text in re.findall(pattern, page)}


def ask(reader: RunReader, path: str, **parameters: str) -> dict[str, Any]:
    answers = Answers({reader.run.name: reader})
    values = {name: [value] for name, value in parameters.items()}
    return answers.answer(path.split("/"), Parameters(values))


@pytest.fixture(scope="module")
def page(reader: RunReader, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The copy of the run that all tests look at, in one file."""
    out = tmp_path_factory.mktemp("copy") / "run.html"
    make_copy(reader, ShareRequest(out))
    return out.read_text("utf-8")


@pytest.mark.parametrize(
    "value",
    [
        [1, True, 1.0, None, "", "1", [], {}],
        {"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": "\ud800\u2028</script>"}]},
        [[[0]] * 300, {"__proto__": 1, "3": 2}],
    ],
)
def test_packing_loses_nothing(value: Any):
    packer = Packer(str)
    place = packer.add(value)
    table = json.loads(json.dumps(packer.to_json()))
    # As JSON: True is no 1 there.
    assert json.dumps(unpack(table, place)) == json.dumps(value)


def test_equal_parts_are_stored_once():
    packer = Packer(str)
    packer.add([{"text": "long " * 50}, {"text": "long " * 50}])
    assert json.dumps(packer.to_json()).count("long long") == 25
    assert len(packer.to_json()["values"]) == 3


def test_a_copy_says_what_the_server_says(reader: RunReader, page: str):
    data = read_data(page)
    pages = unpack(data["copy-pages"], data["copy-pages"]["root"])
    name = reader.run.name
    for path in (f"run/{name}/costs", f"run/{name}/training"):
        assert pages["pages"][path] == {**ask(reader, path), "generation": "copy"}
    of_server = ask(reader, f"run/{name}")
    of_copy = pages["pages"][f"run/{name}"]
    assert of_copy["funnels"] == json.loads(json.dumps(of_server["funnels"]))
    assert of_copy["state"]["text"].startswith("killed, copied 2")
    matrix = ask(reader, f"run/{name}/problems", set="train")
    assert pages["problems"]["train"]["rows"] == json.loads(json.dumps(matrix["rows"]))


def test_a_copy_has_the_pages_of_traces(reader: RunReader, page: str):
    data = read_data(page)
    block = data["copy-block-0"]
    listed = ask(reader, f"run/{reader.run.name}/traces", limit="1000")["items"]
    assert {item["id"] for item in listed} == set(block["traces"])
    for item in listed:
        of_server = ask(reader, f"run/{reader.run.name}/trace/{item['id']}")
        del of_server["generation"]
        [[_, place]] = block["traces"][item["id"]]
        assert unpack(block, place) == json.loads(json.dumps(of_server))


@pytest.mark.slow
def test_what_students_wrote_is_copied_but_not_into_a_selection(tmp_path: Path):
    folder = make_run(tmp_path / "run")
    log = RolloutLog(folder / "students" / STAGE / "rollouts.jsonl")
    log.path.parent.mkdir(parents=True)
    # No path, though it looks like one, and a secret.
    text = rf"\frac{{1}}{{2}}\cdot\boxed{{3}} {SECRETS['text']}"
    log.append([KeptRollout(4, "trace-0", "p0", "q", "5", text, 7, is_truncated=False)])
    reader = open_reader(folder, tmp_path / "index")
    for query, looks in (("", [4]), ("row:yes", [])):
        out = tmp_path / f"copy{len(looks)}.html"
        make_copy(reader, ShareRequest(out, query=query))
        data = read_data(out.read_text("utf-8"))
        pages = unpack(data["copy-pages"], data["copy-pages"]["root"])
        [student] = pages["pages"]["run/run/training"]["students"]
        assert student["looks"] == looks
        copied = [page["rollouts"][0]["text"] for page in pages["rollouts"].values()]
        assert copied == [text.replace(SECRETS["text"], DOT * len(SECRETS["text"]))] * len(looks)


def test_only_the_scripts_of_the_viewer_are_allowed(page: str):
    assert HOSTILE not in page
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(scripts) > 20
    assert re.findall(r"script-src ([^;]*)", policy) == [" ".join(f"'sha256-{h}'" for h in hashes)]
    assert "unsafe" not in policy and "http" not in policy and "connect-src" not in policy
    assert not re.search(r'(?:src|href)="(?!data:)', page.split("<body>", maxsplit=1)[0])


@pytest.mark.slow
def test_a_selection_holds_nothing_else(reader: RunReader, tmp_path: Path):
    out = tmp_path / "rows.html"
    report = make_copy(reader, ShareRequest(out, "arm:orion row:yes"))
    data = read_data(out.read_text("utf-8"))
    count = ask(reader, f"run/{reader.run.name}/facets", q="arm:orion row:yes")["count"]
    assert report["traces"] == count == len(data["copy-block-0"]["traces"])
    assert not [name for name in data["copy-block-0"]["pages"] if name.startswith("problem ")]


@pytest.mark.slow
def test_a_folder_has_a_script_for_each_block(
    reader: RunReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("potstill.viewer.share.documents.BLOCK_SIZE", 1)
    out = tmp_path / "copy"
    for _ in range(2):  # the second time in the place of the first
        make_copy(reader, ShareRequest(out))
    names = sorted(path.name for path in (out / "blocks").iterdir())
    assert names == [f"{number}.js" for number in range(6)]
    scripts = (out / "blocks" / "3.js").read_text("ascii")
    [encoded] = re.findall(r'potstill\.share\.take\(3,"([^"]+)"\);', scripts)
    assert decode(encoded)["traces"]
    assert "'self' file:;" in (out / "index.html").read_text("utf-8")


@pytest.mark.parametrize("names", [("mine.txt",), ("index.html",), ("index.html", "blocks")])
def test_other_files_are_never_replaced(reader: RunReader, tmp_path: Path, names: tuple[str, ...]):
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        make_copy(reader, ShareRequest(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_a_folder_that_may_not_be_written_to_is_said_before_anything_is_read(
    reader: RunReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(ConfigError, match="can't be written to"):
        make_copy(reader, ShareRequest(tmp_path / "new" / "run.html"))


@pytest.mark.slow
def test_what_is_too_large_for_a_file_is_said(
    reader: RunReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(make, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"--share .*/run/ writes a folder"):
        make_copy(reader, ShareRequest(tmp_path / "run.html"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("colour:red", InputError, "there is no field 'colour'"),
        ("arm:nobody", ConfigError, "no trace is found by"),
    ],
)
def test_a_query_that_finds_nothing_is_said(
    reader: RunReader, tmp_path: Path, query: str, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        make_copy(reader, ShareRequest(tmp_path / "run.html", query))


@pytest.mark.parametrize(
    ("source", "benchmark"),
    [
        ("world:story?split=test", ""),
        ("gym:chain_sum", ""),
        ("hf:openai/gsm8k:test", "hf:openai/gsm8k:test"),
        ("test.jsonl", "test.jsonl"),
    ],
)
def test_only_what_a_program_makes_is_no_benchmark(source: str, benchmark: str):
    results = Results(title="", seed=0, note="", recipe={"evaluate": {"problems": source}})
    assert make.name_benchmark(results) == benchmark


@pytest.mark.slow
def test_the_golds_of_a_benchmark_are_asked_for(
    reader: RunReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(make, "name_benchmark", lambda results: "hf:openai/gsm8k:test")
    contents: list[make.Contents] = []
    request = ShareRequest(tmp_path / "run.html", "row:yes")
    with pytest.raises(ConfigError, match="6 gold answers, those of hf:openai/gsm8k:test"):
        make_copy(reader, request, announce=contents.append)
    assert not request.out.exists()
    # What it would hold was said before.
    assert contents[0].golds == 6
    make_copy(reader, replace(request, gives_golds=True))
    assert request.out.exists()


def test_paths_and_hosts_of_settings_are_shortened():
    settings = {
        "teacher": "openai:q?at=https://me:pw@gpu7.example/v1/x",
        "student": "transformers:/data/ann/models/small",
        "problems": r"D:\data\ann\my\problems.jsonl",
        "prompt": r"\boxed{\frac\alpha\beta} or 1/2/3/4",
        "api_key": "not-shown",
        "question": "What is in /a/b/c/d?",
    }
    assert Cleaner().shorten(settings) == {
        "teacher": "openai:q?at=https://[host]/v1/x",
        "student": "transformers:…/models/small",
        "problems": "…/my/problems.jsonl",
        "prompt": settings["prompt"],
        "api_key": DOT * 9,
        "question": settings["question"],
    }


@pytest.mark.slow
def test_a_copy_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SECRET_VARIABLE, SECRETS["environment"])
    make_leaky_run(tmp_path / "run")
    reader = open_reader(tmp_path / "run", tmp_path / "index")
    report = make_copy(reader, ShareRequest(tmp_path / "run.html"))
    data = read_data((tmp_path / "run.html").read_text("utf-8"))
    everything = json.dumps(data, ensure_ascii=False)
    for name, secret in SECRETS.items():
        for length in range(8, len(secret) + 1):
            assert secret[:length] not in everything, name
    assert str(tmp_path) not in everything and "10.1.2.3" not in everything
    assert "…/models/mine" in everything
    assert report["secrets"] == 4  # a word under `authorization` is one only there

    # Offsets into the text stay right.
    block = data["copy-block-0"]
    pages = [unpack(block, entries[0][1]) for entries in block["traces"].values()]
    [leaky] = [page for page in pages if DOT in page["text"]]
    assert leaky["text"].index("😀") == 185 + 1 + len(SECRETS["text"]) + 1
    assert leaky["learnt"] == [[0, utf16_length(leaky["text"])]]


def test_a_secret_over_several_tokens_is_taken_out():
    texts = ["My 😀 ", "key: ", SECRETS["text"][:9], SECRETS["text"][9:], " end"]
    document = {
        "is_available": True,
        "texts": texts,
        "ids": [1, 2, 3, 4, 5],
        "bytes": {2: "73 6b", 4: "20"},
    }
    cleaned = Cleaner().clean_tokens(document)
    assert [len(text) for text in cleaned["texts"]] == [len(text) for text in texts]
    assert cleaned["texts"][2:4] == [DOT * 9, DOT * (len(SECRETS["text"]) - 9)]
    assert cleaned["ids"] == [1, 2, None, None, 5]
    assert cleaned["bytes"] == {4: "20"}
