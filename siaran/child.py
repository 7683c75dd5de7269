"""Becomes another program that dies with its parent; started by `siaran.processes`, never imported.

Usage: `child.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM [ARGUMENT …]`; a UID of -1 keeps the present user. Uses nothing but
the standard library, so that it starts in milliseconds under `python -I -S`.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Switch the user, tie this process to its parent and execute the program."""
    parent, death_signal, uid, gid = (int(value) for value in arguments[:4])
    program = arguments[4:]
    if uid >= 0:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
        os.umask(0o077)
    if sys.platform == "linux":
        # After the switch of user, because the kernel clears the parent-death signal when credentials change.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the signal was set
        sys.exit(1)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these two, and a program inherits what is ignored
        signal.signal(ignored, signal.SIG_DFL)
    os.execv(program[0], program)  # noqa: S606 - a program and its arguments, never a shell


if __name__ == "__main__":
    main(sys.argv[1:])
