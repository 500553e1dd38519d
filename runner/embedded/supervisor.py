"""The parent of an embedded server: starts it, and stops it when its last user has left or was killed.

Run as a script, with the standard library alone, so that it is up in a few milliseconds:
``supervisor.py DIRECTORY BINARY OPTION…``. See `runner.embedded.server` for the locks.
"""

import fcntl
import os
import signal
import sys
import threading


def main(directory: str, command: list[str]) -> int:
    server_lock = os.open(os.path.join(directory, "server"), os.O_RDWR | os.O_CREAT, 0o600)
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
    with open(os.path.join(directory, "pid"), "w") as file:
        file.write(str(pid))
    threading.Thread(target=_stop_when_alone, args=(directory, pid), daemon=True).start()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        _note_kill(directory)  # before the end of this process releases the lock
    return os.waitstatus_to_exitcode(status)


def _note_kill(directory: str) -> None:
    """Note how long the append-only files were when the server was killed. The next start compares the lengths."""
    files = os.path.join(directory, "appendonlydir")
    with open(os.path.join(directory, "killed"), "w") as file:
        for name in sorted(os.listdir(files)) if os.path.isdir(files) else []:
            file.write(f"{name} {os.path.getsize(os.path.join(files, name))}\n")


def _stop_when_alone(directory: str, pid: int) -> None:
    users = os.open(os.path.join(directory, "users"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(users, fcntl.LOCK_EX)
    os.kill(pid, signal.SIGTERM)


def _die_with_parent() -> None:
    """On Linux the server does not outlive this process, even when this process is killed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
