"""Batches of a data loader, waited for in another thread: a signal and a time limit end every wait."""

import multiprocessing
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from codes.engine import distributed
from codes.errors import InputError

SHARED = Path("/dev/shm")  # worker processes hand their batches over through it
LIMIT = 300.0  # seconds that one batch may take; less than what other processes wait for this one
GRACE = 10.0  # seconds after a signal in which a batch may still arrive, so that all processes stop at one step
POLL = 0.2
REMEDY = "--workers 0 needs no shared memory; docker gives more with --shm-size=1g"
END, STOPPED = object(), object()


def check_shared_memory(*loaders: DataLoader | None) -> None:
    """Raise InputError if the batches that the workers of all loaders prepare do not fit into /dev/shm."""
    working = [loader for loader in loaders if loader and loader.num_workers]
    if not working or not SHARED.is_dir():
        return
    needed = sum(map(_prepared_bytes, working)) * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    free = shutil.disk_usage(SHARED).free
    if needed > free:
        raise InputError(
            f"{SHARED}: {free / 2**20:.0f} MiB are free, --workers {working[0].num_workers} needs "
            f"{needed / 2**20:.0f} MiB for the batches that are prepared; {REMEDY}"
        )


def _prepared_bytes(loader: DataLoader) -> int:
    """Return what all batches take that exist at a time: those that workers prepare, and one that is used."""
    batch = next(iter(loader.batch_sampler), None)
    if batch is None:
        return 0
    one = loader.collate_fn([_first(loader, batch[0])]).nbytes
    return len(batch) * one * (loader.num_workers * (loader.prefetch_factor or 2) + 1)


def _first(loader: DataLoader, key: Any) -> Any:
    return next(awaited(_Single(loader.dataset, key)))


class _Single:
    """One sample of a data set, as an iterable."""

    def __init__(self, samples: Any, key: Any):
        self.samples, self.key = samples, key

    def __iter__(self) -> Iterator[Any]:
        yield self.samples[self.key]


def awaited(batches: Any, *, stop: Callable[[], str] = lambda: "") -> Iterator[Any]:
    """Yield the batches; end early if `stop` names a signal while one is waited for.

    Each is read when it is asked for, in a thread: a read that blocks (a network drive) blocks nothing else.
    Raises: InputError after LIMIT seconds without a batch, or if a worker process died or found no shared memory;
    what reading raises else.
    """
    requests: queue.SimpleQueue = queue.SimpleQueue()
    answers: queue.SimpleQueue = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(batches, requests, answers), daemon=True)
    reader.start()
    is_waiting = True
    try:
        while True:
            requests.put(True)
            is_waiting = True
            try:
                batch = _answer(answers, stop, getattr(batches, "num_workers", 0))
            except RuntimeError as error:  # PyTorch reports a dead worker in this thread too, by a signal handler
                raise _named(error) from error
            if batch is STOPPED:
                return
            is_waiting = False
            if batch is END:
                return
            yield batch
    finally:
        requests.put(False)
        if not is_waiting:
            reader.join()
        elif getattr(batches, "num_workers", 0):
            for worker in multiprocessing.active_children():  # else the end of this process would wait for them
                worker.terminate()


def _read(batches: Any, requests: queue.SimpleQueue, answers: queue.SimpleQueue) -> None:
    try:
        iterator = iter(batches)
        while requests.get():
            answers.put(next(iterator, END))
    except Exception as error:
        answers.put(error)


def _answer(answers: queue.SimpleQueue, stop: Callable[[], str], workers: int) -> Any:
    """Return the next batch, END behind the last one, or STOPPED if a signal ended the wait."""
    start = heard = time.monotonic()
    while True:
        try:
            answer = answers.get(timeout=POLL)
        except queue.Empty:
            now = time.monotonic()
            if not stop():
                heard = now
            elif now - heard >= (GRACE if distributed.world_size() > 1 else 0):
                return STOPPED
            if now - start > LIMIT:
                hint = f"; if {SHARED} is full: {REMEDY}" if workers else ""
                raise InputError(
                    f"no batch for {LIMIT:.0f} seconds: the drive of the data does not answer, or a worker process "
                    f"hangs; look at the drive{hint}"
                ) from None
            continue
        if isinstance(answer, Exception):
            raise _named(answer) from answer
        return answer


def _named(error: Exception) -> Exception:
    """Return the error as what a user can correct, if it is of a worker process and not of the data."""
    said = str(error)
    if "shared memory" in said or "No space left on device" in said or "Bus error" in said:
        return InputError(f"{SHARED} is full: {REMEDY}")
    cut_off = isinstance(error, EOFError | ConnectionError) and "Caught" not in said  # amid a batch
    if cut_off or "exited unexpectedly" in said or "killed by signal" in said:
        return InputError(
            f"a worker process was killed, perhaps because memory or {SHARED} is full: use fewer --workers,"
            f" or 0; {REMEDY.partition('; ')[2]}"
        )
    return error
