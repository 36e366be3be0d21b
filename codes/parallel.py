"""A pool of processes that ends with its parent and reports progress."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any

import cv2

_done = None  # in a worker: how much all workers have done so far


def run(
    task: Callable[..., Any], jobs: list[tuple], *, workers: int, progress: Callable[[int], None]
) -> Iterator[tuple[tuple, Any]]:
    """Call `task(*job, advance)` for each job; yield (job, result) as they end, the exception where one was raised.

    A task tells what it has done by `advance(amount)`; `progress` gets the sum over all of them several times a second.
    """
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(done,)) as pool:
        waiting = {pool.submit(_call, task, job): job for job in jobs}
        try:
            while waiting:
                ended, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                progress(done.value)
                for future in ended:
                    yield waiting.pop(future), future.exception() or future.result()
        finally:
            for future in waiting:
                future.cancel()


def _begin(done: Any) -> None:
    global _done
    _done = done
    cv2.setNumThreads(1)  # the processes share the processors already
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _call(task: Callable[..., Any], job: tuple) -> Any:
    return task(*job, _advance)


def _advance(amount: int) -> None:
    with _done.get_lock():
        _done.value += amount
