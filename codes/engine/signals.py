"""Signals that ask a program to stop: a cluster's preemption (SIGTERM), Ctrl-C (SIGINT)."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from codes.cli import RESUMABLE

ASKING = (signal.SIGTERM, signal.SIGINT)
ANSWER = b"\n%s: the step is finished and the state written; again, and all since the last state is lost\n"
GRACE = 60.0  # seconds after a signal in which a call outside of Python may end
END = b"\0"  # the number of no signal
HANGS = b"\nstopped: %d seconds after the signal a computation or a wait for another process has not ended; "
HANGS += b"the same command goes on from the last state\n"


def outlive(_: int = 0) -> None:
    """Let a process that reads data live through signals to its whole group: its parent needs it to finish the step.

    SIGTERM ends it only if its parent sends it. Source of a signal: sigwaitinfo, which Linux has.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):
        return
    parent = os.getppid()

    def listen() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=listen, daemon=True).start()


@contextmanager
def _watched(heard: list[str]) -> Iterator[None]:
    """Within, end the process GRACE seconds after a signal that Python could not handle.

    Python handles a signal when the main thread returns from a call such as a collective operation, whose other
    process may hang. The C library handles it at once and writes a byte into the pipe.
    """
    ended, (read, write) = threading.Event(), os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(read, 1)[0]:
            if number in ASKING:
                break
        else:
            return
        if not ended.wait(GRACE) and not heard:
            os.write(2, HANGS % GRACE)
            os._exit(RESUMABLE)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        ended.set()
        os.write(write, END)
        watcher.join()
        os.close(read)
        os.close(write)


# Processes that read data are forked: their signals must not be written into the pipe.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


@contextmanager
def noted() -> Iterator[Callable[[], str]]:
    """Within, the first signal is only noted, and the second ends the process at once.

    Yields a function that returns the name of the signal, empty while there was none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: ""  # only the main thread can hear
        return
    owner, heard = os.getpid(), []

    def hear(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            return  # a process that reads data, and has not come to `outlive` yet
        if heard:
            signal.signal(number, signal.SIG_DFL)
            os.kill(owner, number)
        heard.append(signal.Signals(number).name)
        with suppress(OSError):  # of a terminal that is gone
            os.write(2, ANSWER % heard[0].encode())  # print could have been interrupted by the signal itself

    before = {number: signal.signal(number, hear) for number in ASKING}
    try:
        with _watched(heard):
            yield lambda: heard[0] if heard else ""
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
