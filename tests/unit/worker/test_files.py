"""Files that are there whole or not at all."""

from __future__ import annotations

import os

import pytest

from elf_worker.roles.files import write_atomically


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_replaced_and_alone(tmp_path, durable):
    path = tmp_path / "deep" / "er" / "state"
    for data in (b"first", bytearray(b"second"), memoryview(b"third"), b""):
        write_atomically(path, data, durable)
        assert path.read_bytes() == bytes(data)
    assert os.listdir(path.parent) == ["state"]


@pytest.mark.parametrize("broken", ["replace", "fdopen", "fsync"])
def test_a_failure_on_the_way_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, broken):
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, broken, fails)
    with pytest.raises(OSError, match="Input/output"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    """Renamed first, a power cut could leave the name with nothing behind it."""
    done: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*args: object, _name: str = name, _real: object = real) -> object:
            done.append(_name)
            return _real(*args)

        monkeypatch.setattr(os, name, noted)
    write_atomically(tmp_path / "state", b"bytes")
    assert done == ["fsync", "replace", "fsync"]
    done.clear()
    write_atomically(tmp_path / "state", b"bytes", durable=False)
    assert done == ["replace"]


def test_open_files_do_not_grow_in_number(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        write_atomically(tmp_path / "state", b"bytes")
    assert len(os.listdir("/proc/self/fd")) == before
