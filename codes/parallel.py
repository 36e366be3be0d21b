"""Threads, and a pool of processes that ends with its parent and reports progress."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import cv2


def in_threads(function: Callable[..., Any], *items: Iterable[Any], threads: int) -> list[Any]:
    """Call a function for each of the items as `map` does, in threads, on one core each: they do not start others."""
    import torch  # it is slow to import, and worker processes do without

    if threads == 1:
        return list(map(function, *items))
    cores, is_inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def call(*arguments: Any) -> Any:
        with torch.inference_mode(is_inference):  # each thread has a mode of its own
            return function(*arguments)

    try:
        with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
            return list(pool.map(call, *items))
    finally:
        torch.set_num_threads(cores)  # threads to come would start with 1 too


_done = None  # in a worker: how much all workers have done so far


def run(
    task: Callable[..., Any], jobs: list[tuple], *, workers: int, progress: Callable[[int], None]
) -> Iterator[tuple[tuple, Any]]:
    """Call `task(*job, advance)` for each job; yield (job, result) as they end, the exception where one was raised.

    A task reports its progress by `advance(amount)`; `progress` gets the sum over all of them several times a second.
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
