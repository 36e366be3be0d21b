"""Processes of one run: what is said where one of them never comes, or is lost."""

import os
import re
import socket
import subprocess
import sys

from conftest import ROOT

# The first process waits for the others for so many seconds; then it is left alone in every operation that takes all.
RUN = """
import os, sys
from datetime import timedelta
import torch
from codes.engine import distributed
from codes.errors import InputError

distributed.LIMIT = timedelta(seconds=float(sys.argv[1]))
try:
    distributed.initialize("cpu")
except InputError as error:
    sys.exit(f"error: {error}")
if distributed.rank():
    os._exit(3)
for ask in (distributed.all_gather, distributed.all_reduce_max, lambda _: distributed.all_reduce_mean(torch.ones(1))):
    try:
        with torch.inference_mode():
            ask([1])
    except distributed.LostProcess as error:
        print(error)
try:
    distributed.barrier()
except distributed.LostProcess as error:
    print(error, flush=True)
os._exit(0)  # the end of the process would wait for the group
"""


def process(rank: int, port: int, seconds: float) -> subprocess.Popen:
    """Start one of two processes as torchrun does."""
    about = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", RUN, str(seconds)]
    environment = os.environ | about | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_process_that_does_not_come_is_said_in_one_line():
    """An error of one process before it joins, for instance without a GPU of its own, leaves the others waiting."""
    said = process(0, free_port(), seconds=1).communicate(timeout=120)[1].splitlines()[-1]
    assert said.startswith("error: the 2 processes of this run did not find each other within 1 seconds (")
    assert said.endswith("): see what the others said, then start all again")


def test_a_process_that_is_lost_is_said_in_one_line():
    port = free_port()
    last, first = process(1, port, seconds=60), process(0, port, seconds=60)
    lines = first.communicate(timeout=120)[0].splitlines()
    assert (first.returncode, last.wait(60), len(lines)) == (0, 3, 4)
    for line in lines:
        assert re.fullmatch(
            r"another process of this run has ended or hangs \((Read error \S+ )?Connection [^()]*\): "
            "see its message, then start all processes again",
            line,
        )
