"""A file is the old one or the new one, whatever happens while it is written."""

import pytest

from potstill.data.atomic_write import write_bytes, write_text, writing


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
