"""Children that the programs beside this fork: one that hangs is killed, and one that is forked while a call waits."""

import os
import signal

LONGEST = 60
"""Seconds after which a child hangs. It takes milliseconds where nothing else runs."""


def kill_if_it_hangs():
    """Let an alarm kill this child after a time. Its parent notices by the status."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LONGEST)


def fork_during(call, may_return):
    """Call `call`, fork in a signal handler while it waits, and return the status of the child.

    The call goes on in both processes, and the child ends with it. In the parent, it waits for the event `may_return`,
    which is set after the fork.
    """
    child = None

    def fork(*_):
        nonlocal child
        child = os.fork()
        if child == 0:
            kill_if_it_hangs()
        else:
            may_return.set()

    signal.signal(signal.SIGALRM, fork)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    call()
    if child == 0:
        os._exit(0)
    assert child is not None, "the call did not wait"
    _, status = os.waitpid(child, 0)
    return status
