"""The parent of an embedded server: starts it, and stops it when its last user has left or was killed.

Run as a script, with the standard library alone, so that it is up in a few milliseconds:
``supervisor.py HANDLE BINARY OPTION…``, where HANDLE is that of the open directory, in which it works. See
`runner.embedded.server` for the locks. All files are for their user alone, whatever the mode of the directory.
"""

import fcntl
import os
import signal
import sys
import threading


def main(directory: int, command: list[str]) -> int:
    os.umask(0o077)
    os.fchdir(directory)
    os.close(directory)
    server_lock = _open("server", os.O_RDWR)
    try:
        fcntl.flock(server_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another server holds the directory", flush=True)
        return 3
    if os.fork():
        os._exit(0)  # the process that started this one need not wait for it, nor clean up after it
    os.setsid()
    os.set_inheritable(server_lock, True)  # the server holds the lock as long as it lives
    pid = os.fork()
    if pid == 0:
        _die_with_parent()
        os.execv(command[0], command)
    _write("pid", str(pid))
    threading.Thread(target=_stop_when_alone, args=(pid,), daemon=True).start()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        _note_kill()  # before the end of this process releases the lock
    return os.waitstatus_to_exitcode(status)


def _note_kill() -> None:
    """Note how long the append-only files were when the server was killed. The next start compares the lengths."""
    files = "appendonlydir"
    names = sorted(os.listdir(files)) if os.path.isdir(files) else []
    _write("killed", "".join(f"{name} {os.path.getsize(os.path.join(files, name))}\n" for name in names))


def _stop_when_alone(pid: int) -> None:
    fcntl.flock(_open("users", os.O_RDWR), fcntl.LOCK_EX)
    os.kill(pid, signal.SIGTERM)


def _open(name: str, flags: int) -> int:
    """Open a file in the directory; a link in its place is not followed."""
    return os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _write(name: str, text: str) -> None:
    """Write a file whole."""
    with open(_open(name, os.O_WRONLY | os.O_TRUNC), "w") as file:
        file.write(text)


def _die_with_parent() -> None:
    """On Linux the server does not outlive this process, even when this process is killed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
