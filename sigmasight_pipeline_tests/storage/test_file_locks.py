"""Locks between processes: exclusive, shared, gone with their holder, and never on a file that was removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sigmasight_pipeline.storage import file_locks
from sigmasight_pipeline.storage.file_locks import exclusive, is_held, open_lock, try_lock


def test_exclusive_and_shared(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    one, other = open_lock(path), open_lock(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert try_lock(one, shared=True)
    assert try_lock(other, shared=True)
    assert not is_held(path)
    assert is_held(path, also_shared=True)
    assert not try_lock(one)  # the other reads
    os.close(other)
    assert try_lock(one)
    assert is_held(path)
    os.close(one)
    assert not is_held(path, also_shared=True)


def test_inherited_descriptor_keeps_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = open_lock(path)
    assert try_lock(descriptor)
    child = subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    os.close(descriptor)
    assert is_held(path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not is_held(path)


def test_killed_holder_lets_go(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from sigmasight_pipeline.storage.file_locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]), timeout=1): print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "new" / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(TimeoutError, match="has been locked by another process"), exclusive(path, timeout=0.1):
        pass
    holder.kill()
    holder.communicate()
    with exclusive(path, timeout=0.1):
        assert is_held(path)
    assert not is_held(path)


def test_a_lock_file_removed_at_the_wrong_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it: what is locked then is no longer what others will open."""
    path = tmp_path / "folder" / "lock"
    removed: list[Path] = []

    def try_lock_too_late(descriptor: int) -> bool:
        if not removed:
            removed.append(path.parent.rename(tmp_path / "elsewhere"))
        return try_lock(descriptor)

    monkeypatch.setattr(file_locks, "try_lock", try_lock_too_late)
    with exclusive(path, timeout=10):
        monkeypatch.undo()
        assert removed
        assert is_held(path)
        assert not is_held(removed[0] / "lock")
