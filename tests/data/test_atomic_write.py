"""A file is the old one or the new one, whatever happens while it is written."""

import threading

import pytest

from potstill.data.atomic_write import building_folder, write_bytes, write_text, writing


def test_the_new_content_replaces_the_old_one(tmp_path):
    path = tmp_path / "folder" / "file.json"
    write_text(path, "old")
    write_bytes(path, b"new \xff")
    assert path.read_bytes() == b"new \xff"
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


def test_an_exception_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "file.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write(b"half of the new one")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


def test_text_that_has_no_utf_8_form_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "made" / "folder"
    with pytest.raises(RuntimeError), building_folder(path) as draft:
        (draft / "half").write_text("x")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    # What a killed process left is not taken over.
    leftover = path.with_name(".folder.part")
    (leftover / "deep").mkdir(parents=True)
    (leftover / "half").write_text("x")
    with building_folder(path) as draft:
        assert list(draft.iterdir()) == [] and not path.exists()
        (draft / "whole").write_text("y")
    assert [file.name for file in path.iterdir()] == ["whole"]
    assert [file.name for file in path.parent.iterdir()] == ["folder"]
    with building_folder(path) as draft:
        assert draft is None


def test_two_that_build_one_folder_do_not_meet(tmp_path):
    path = tmp_path / "folder"
    drafts = []

    def build():
        with building_folder(path) as draft:
            drafts.append(draft)
            if draft is not None:
                (draft / "file").write_text("x")

    with building_folder(path) as draft:
        second = threading.Thread(target=build)
        second.start()
        (draft / "first").write_text("x")
        second.join(0.02)  # it waits
        assert drafts == []
    second.join()
    assert drafts == [None] and [file.name for file in path.iterdir()] == ["first"]
