"""Two processes must not make one directory."""

import errno
import subprocess
import sys

import pytest

from stellarscale.engine.ledger import open_ledger
from stellarscale.engine.lock import Lock
from stellarscale.errors import RunError

HOLD = """
import sys
from pathlib import Path
from stellarscale.engine.ledger import open_ledger
ledger = open_ledger(Path(sys.argv[1]), step="match", digest="d", about={})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def busy(tmp_path):
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield out, process
        process.kill()


def test_a_second_process_is_refused_and_touches_nothing(busy):
    out, _ = busy
    before = sorted(path.name for path in out.rglob("*"))
    for how in ({}, {"fresh": True}, {"update": True}):
        with pytest.raises(RunError, match="another process is working"):
            open_ledger(out, step="match", digest="other", about={}, **how)
    assert sorted(path.name for path in out.rglob("*")) == before


def test_the_lock_of_a_killed_process_is_free(busy):
    out, process = busy
    process.kill()
    process.wait()
    assert open_ledger(out, step="match", digest="d", about={}).run()["step"] == "match"


TRY = """
import sys
from pathlib import Path
from stellarscale.engine.lock import Lock
Lock(Path(sys.argv[1]))
"""


def test_a_process_may_take_its_own_lock_again_and_keeps_it(tmp_path):
    first = Lock(tmp_path)
    Lock(tmp_path)  # gone at once
    taken = subprocess.run([sys.executable, "-c", TRY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert first is not None
    assert "another process is working" in taken.stderr


def test_what_others_have_finished_can_be_used_where_nothing_can_be_written(tmp_path, monkeypatch):
    out = tmp_path / "out"
    open_ledger(out, step="match", digest="d", about={}).finish({"rows": 1})

    def refuse(*about):
        raise PermissionError(errno.EACCES, "no", str(out))

    monkeypatch.setattr("stellarscale.engine.lock.os.open", refuse)
    assert open_ledger(out, step="match", digest="d", about={}).finished == {"rows": 1}


def failing(number):
    def lockf(*arguments):
        raise OSError(number, "no")

    return lockf


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("stellarscale.engine.lock.fcntl.lockf", failing(errno.ENOLCK))
    assert Lock(tmp_path).release.alive
    assert "has no locks" in caplog.text


def test_any_other_trouble_with_the_lock_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("stellarscale.engine.lock.fcntl.lockf", failing(errno.EIO))
    with pytest.raises(OSError, match="no"):
        Lock(tmp_path)
