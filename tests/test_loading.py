"""No wait for data lasts for ever: full shared memory, a killed worker, a read that blocks, a signal."""

import os
import shutil
import signal
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from training import run, state

from codes.data.dataset import SpikeDataset
from codes.engine import loading
from codes.errors import InputError, Interrupted

Usage = namedtuple("Usage", "total used free")


class Samples(torch.utils.data.Dataset):
    """Four samples; reading number 2 does something first."""

    def __init__(self, event=lambda: None):
        self.event = event

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 2:
            self.event()
        return torch.full((1000,), index)


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full() -> None:
    raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_and_once(workers):
    loader = DataLoader(Samples(), batch_size=1, num_workers=workers)
    for _ in range(2):
        assert [int(batch[0, 0]) for batch in loading.awaited(loader)] == [0, 1, 2, 3]


def test_a_killed_worker_is_named():
    with pytest.raises(InputError, match=r"a worker process was killed, .* use fewer --workers"):
        list(loading.awaited(DataLoader(Samples(kill_this_process), num_workers=1)))


def test_a_killed_worker_is_named_when_a_signal_tells_of_it():
    """PyTorch's handler of SIGCHLD raises in the thread that waits."""

    def tell(*_):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")

    before = signal.signal(signal.SIGUSR1, tell)
    try:
        with pytest.raises(InputError, match="a worker process was killed"):
            list(loading.awaited(DataLoader(Samples(lambda: signal.raise_signal(signal.SIGUSR1) or time.sleep(1)))))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_full_shared_memory_is_named():
    with pytest.raises(InputError, match=r"/dev/shm is full: --workers 0 .*--shm-size"):
        list(loading.awaited(DataLoader(Samples(full), num_workers=1)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_read_that_blocks_ends_at_the_limit(monkeypatch, workers):
    monkeypatch.setattr(loading, "LIMIT", 0.5)
    blocked = threading.Event() if workers == 0 else None
    loader = DataLoader(Samples(blocked.wait if blocked else signal.pause), num_workers=workers)
    seen = []
    with pytest.raises(InputError, match=r"no batch for 0 seconds: the drive of the data does not answer"):
        seen.extend(int(batch[0, 0]) for batch in loading.awaited(loader))
    if blocked:
        blocked.set()


def test_a_signal_ends_the_wait_for_a_read_that_blocks_and_the_state_is_written(data, weights, monkeypatch):
    """The same command then goes on to the same weights."""
    through = run("sr", data, weights, exp_name="through")
    original, answered, read = SpikeDataset.__getitem__, threading.Event(), []

    def blocking(self, key):
        read.append(key)
        if len(read) == 5:  # of batches of two
            os.kill(os.getpid(), signal.SIGTERM)
            answered.wait()
        return original(self, key)

    monkeypatch.setattr(SpikeDataset, "__getitem__", blocking)
    with pytest.raises(Interrupted, match="at step 2, the state is written"):
        run("sr", data, weights, exp_name="stopped")
    answered.set()
    monkeypatch.undo()
    folder = data.parent / "log/sr/stopped"
    assert state(folder)["progress"]["step"] == 2
    resumed = state(run("sr", data, weights, exp_name="stopped"))["net"]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in state(through)["net"].items())


def test_data_that_do_not_arrive_end_the_run_with_its_state(data, weights, monkeypatch):
    monkeypatch.setattr(loading, "LIMIT", 0.5)
    original, answered, read = SpikeDataset.__getitem__, threading.Event(), []

    def blocking(self, key):
        read.append(key)
        if len(read) == 5:
            answered.wait()
        return original(self, key)

    monkeypatch.setattr(SpikeDataset, "__getitem__", blocking)
    with pytest.raises(InputError, match="no batch for"):
        run("sr", data, weights, exp_name="stopped")
    answered.set()
    assert state(data.parent / "log/sr/stopped")["progress"]["step"] == 2


def test_too_little_shared_memory_is_named_before_the_first_batch(data, weights, monkeypatch):
    monkeypatch.setattr(loading, "SHARED", Path("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 2**14))
    with pytest.raises(InputError, match=r"0 MiB are free, --workers 2 needs \d+ MiB .*--workers 0 .*--shm-size"):
        run("sr", data, weights, workers=2)
    run("sr", data, weights, workers=0, steps=1)


def test_shared_memory_is_checked_for_all_batches_of_all_processes(monkeypatch):
    """Two workers prepare two batches each and one is used, of four samples of 8,000 bytes, in three processes."""
    needed, loader = 3 * 5 * 4 * 8000, DataLoader(Samples(), batch_size=4, num_workers=2, collate_fn=torch.stack)
    monkeypatch.setattr(loading, "SHARED", Path("/"))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed))
    loading.check_shared_memory(loader, None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed - 1))
    with pytest.raises(InputError, match="--workers 2 needs"):
        loading.check_shared_memory(loader, None)
