"""Creation locks by lock files: among processes, killed ones, forked ones."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from beaker import runtime
from beaker.exceptions import ConfigError, StoreUnavailable
from beaker.locking.factories import FileLocks, PollingLock
from beaker.locking.files import lock_file
from beaker.locking.stripes import _Held
from beaker.testing.lock import PATIENCE, LockContract, elsewhere
from tests.processes import CONTEXT, fresh

ROOT = Path(__file__).parents[1]


class TestFiles(LockContract):
    @pytest.fixture
    def locks(self, tmp_path: Path) -> FileLocks:
        return FileLocks(tmp_path / "locks", file_locks=True)


class TestOneStripe(LockContract):
    """The same promises when all keys share one file: inside a process they still do not exclude each other."""

    @pytest.fixture
    def locks(self, tmp_path: Path) -> FileLocks:
        return FileLocks(tmp_path, stripes=1, file_locks=True)


class TestFilesWithoutFiles(LockContract):
    @pytest.fixture
    def locks(self, tmp_path: Path) -> FileLocks:
        return FileLocks(tmp_path / "never", file_locks=False)


def test_no_file_before_a_lock(tmp_path: Path) -> None:
    """Neither the factory nor a lock that is not taken creates a file or directory."""
    FileLocks(tmp_path / "locks", file_locks=True).creation("n", "k")
    assert list(tmp_path.iterdir()) == []


def test_files_are_bounded_and_private(tmp_path: Path) -> None:
    """However many keys are locked there are at most 256 files, readable by their owner only."""
    locks = FileLocks(tmp_path / "locks", file_locks=True)
    for number in range(2000):
        lock = locks.creation("n", str(number))
        lock.acquire()
        lock.release()
    files = list((tmp_path / "locks").iterdir())
    assert 200 < len(files) <= 256
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    """A link planted in place of a lock file is not followed; the lock in front is free again."""
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "creation-00.lock").symlink_to(tmp_path / "target")
    lock = FileLocks(tmp_path, stripes=1, file_locks=True).creation("n", "k")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="a symbolic link is in the place of a file"):
            lock.acquire(True, PATIENCE)


def test_removed_directory(tmp_path: Path) -> None:
    """A lock directory that was cleaned away is created again."""
    lock = FileLocks(tmp_path / "a" / "b", stripes=1, file_locks=True).creation("n", "k")
    lock.acquire()
    lock.release()
    (tmp_path / "a" / "b" / "creation-00.lock").unlink()
    (tmp_path / "a" / "b").rmdir()
    assert lock.acquire(False) is True
    lock.release()


def test_serverless_touches_no_file(tmp_path: Path) -> None:
    """Where the runtime has no shared disk the default is thread locks, and no file."""
    try:
        runtime.override(runtime.Runtime(platform=runtime.Platform.APPENGINE))
        lock = FileLocks(tmp_path / "locks").creation("n", "k")
    finally:
        runtime.override(None)
    assert lock.acquire() is True
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_factories_of_one_directory_are_one(tmp_path: Path) -> None:
    """Two factories on one directory exclude each other, and their keys do not wait for each other."""
    one, other = (FileLocks(tmp_path, stripes=1, file_locks=True) for _ in range(2))
    lock = one.creation("n", "k")
    lock.acquire()
    assert elsewhere(lambda: other.creation("n", "k").acquire(False)) is False
    assert elsewhere(lambda: other.creation("n", "k2").acquire(False)) is True
    lock.release()


@pytest.mark.parametrize("stripes", [0, 257])
def test_bad_stripes(tmp_path: Path, stripes: int) -> None:
    """The number of lock files is within 1 and 256."""
    with pytest.raises(ConfigError, match="1 to 256"):
        FileLocks(tmp_path, stripes=stripes)


def hold(directory: str, key: str, pipe: Connection) -> None:
    """In a child process: hold the lock of ``key`` until told to end."""
    lock = FileLocks(directory, stripes=1, file_locks=True).creation("n", key)
    assert lock.acquire(True, PATIENCE)
    pipe.send("held")
    pipe.recv()
    lock.release()
    pipe.send("free")


def count_up(directory: str, rounds: int) -> None:
    """In a child process: increment a number in a file, guarded by the lock only."""
    locks = FileLocks(directory, file_locks=True)
    path = Path(directory, "number")
    for _ in range(rounds):
        lock = locks.creation("n", "k")
        assert lock.acquire(True, PATIENCE)
        number = int(path.read_text())
        path.write_text(str(number + 1))
        lock.release()


def test_processes_lose_no_increment(tmp_path: Path) -> None:
    """4 processes that increment 50 times each under the lock end at exactly 200."""
    (tmp_path / "number").write_text("0")
    children = [fresh(count_up, str(tmp_path), 50) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
    assert [child.exitcode for child in children] == [0] * 4
    assert (tmp_path / "number").read_text() == "200"


def test_another_process(tmp_path: Path) -> None:
    """What another process holds is not free here, done or not, until it releases it."""
    ours, theirs = CONTEXT.Pipe()
    child = fresh(hold, str(tmp_path), "k", theirs)
    child.start()
    assert ours.poll(PATIENCE)
    assert ours.recv() == "held"
    lock = FileLocks(tmp_path, stripes=1, file_locks=True).creation("n", "k")
    assert isinstance(lock, PollingLock)
    assert lock.acquire(False) is False
    assert lock.acquire(True, 0.01) is False
    assert lock.acquire_unless(lambda: True, PATIENCE) is False
    ours.send("end")
    assert lock.acquire(True, PATIENCE) is True
    lock.release()
    child.join(PATIENCE)
    ours.close()
    theirs.close()


def test_a_file_that_may_not_be_opened_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied is an error at once: as "another holder has it" it would be waited for until the timeout."""

    def denied(*arguments: Any) -> int:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(os, "open", denied)
    for wait in (False, True):
        with pytest.raises(PermissionError):
            lock_file(str(tmp_path / "file"), exclusive=True, wait=wait, timeout=PATIENCE)


def test_killed_process(tmp_path: Path) -> None:
    """The lock of a process that was killed is free."""
    ours, theirs = CONTEXT.Pipe()
    child = fresh(hold, str(tmp_path), "k", theirs)
    child.start()
    assert ours.poll(PATIENCE)
    lock = FileLocks(tmp_path, stripes=1, file_locks=True).creation("n", "k")
    assert lock.acquire(False) is False
    child.kill()
    assert lock.acquire(True, PATIENCE) is True
    lock.release()
    child.join(PATIENCE)
    ours.close()
    theirs.close()


FORK = """
import os, sys
from beaker.locking.factories import FileLocks, LayeredLocks, ThreadLocks
mine = FileLocks(sys.argv[1], stripes=1, file_locks=True)
threads = ThreadLocks().creation("n", "k")
files = mine.creation("n", "k")
assert threads.acquire() and files.acquire()
if not os.fork():
    # The child's thread lock is its own and free; the file is still the parent's.
    assert threads.acquire(False)
    threads.release()
    threads.release()     # the parent's, which the code around the fork would release here too
    files.release()
    assert not files.acquire(False)
    assert not files.acquire(True, 0.01)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert not threads.acquire(False)
# A process that never saw the fork still finds the parent's lock held.
if not os.fork():
    os.execv(sys.executable, [sys.executable, "-c", PROBE, sys.argv[1], "False"])
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
threads.release()
# A child that lives on does not keep what its parent gives up.
read_end, write_end = os.pipe()
if not os.fork():
    os.close(write_end)
    os.read(read_end, 1)
    os._exit(7)
files.release()
if not os.fork():
    os.execv(sys.executable, [sys.executable, "-c", PROBE, sys.argv[1], "True"])
os.close(read_end)
codes = [os.waitstatus_to_exitcode(os.wait()[1])]
os.close(write_end)
codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
assert codes == [0, 7], codes
"""
PROBE = """
import sys
from beaker.locking.factories import FileLocks
lock = FileLocks(sys.argv[1], stripes=1, file_locks=True).creation("n", "k")
assert str(lock.acquire(False)) == sys.argv[2]
"""


def test_fork(tmp_path: Path) -> None:
    """A forked child holds nothing, and cannot free or prolong what its parent holds."""
    # In a process of its own: this one may have threads, beside which Python 3.12 warns of forking.
    code = f"PROBE = {PROBE!r}\n{FORK}"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60, cwd=ROOT)


FORK_BESIDE_A_HOLDER = """
import os, sys, threading
from beaker.locking.factories import FileLocks
locks = FileLocks(sys.argv[1], stripes=1, file_locks=True)
held, end = threading.Event(), threading.Event()
def work():
    lock = locks.creation("n", "k")
    assert lock.acquire()
    held.set()
    end.wait(30)
    lock.release()
thread = threading.Thread(target=work)
thread.start()
held.wait(30)
if not os.fork():
    lock = locks.creation("n", "k")
    assert lock.acquire(True, 30)     # as soon as the parent's thread is through
    lock.release()
    os._exit(7)
end.set()
thread.join()
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
"""


def test_fork_beside_a_holder(tmp_path: Path) -> None:
    """A child forked while another thread holds the lock is not stuck for ever."""
    arguments = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK_BESIDE_A_HOLDER, str(tmp_path)]
    subprocess.run(arguments, check=True, timeout=60, cwd=ROOT)


ORPHAN = """
import os, signal, sys
from beaker.locking.factories import FileLocks
lock = FileLocks(sys.argv[1], stripes=1, file_locks=True).creation("n", "k")
read_end, write_end = os.pipe()
parent = os.fork()
if not parent:
    assert lock.acquire()
    if not os.fork():
        os.write(write_end, b"x")
        os.close(write_end)
        signal.pause()     # the orphan lives on with whatever it inherited, until its group is ended
    signal.pause()
os.read(read_end, 1)
os.kill(parent, signal.SIGKILL)
os.waitpid(parent, 0)
assert lock.acquire(True, 10), "the orphan keeps its dead parent's lock"
"""


def test_killed_parent(tmp_path: Path) -> None:
    """A forked child does not keep the lock of its parent that was killed."""
    # A session of its own, so that the orphan can be ended by its group.
    process = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path)], cwd=ROOT, start_new_session=True)
    try:
        assert process.wait(PATIENCE) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_a_stripe_that_an_exception_hit_in_its_constructor_goes_silently() -> None:
    """Nothing is held then, and nothing is printed of an AttributeError that was ignored."""
    _Held.__new__(_Held).__del__()
