"""Runs a script in several processes that connect by gloo, and returns what each of them saved.

    python script.py WORLD FOLDER ARGUMENT ...

The script imports its modules once, and `main` forks it into the ranks, with the environment that torchrun sets. A rank
saves its results in FOLDER/rank<r>.pt and writes to FOLDER/rank<r>.log. If a rank fails, or all of them hang, the run
ends with an AssertionError that shows what they wrote.
"""

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

SECONDS = 120  # for a whole run, which takes about five
GRACE = 5  # for the other ranks once one has failed: they would wait for it forever


def run_ranks(script, world, folder, *arguments):
    """[results of rank 0, results of rank 1, ...]"""
    # The store is in this process, on a port that the system chose, so the port cannot be in use.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # rank 0, too, is a client of this store
        "GLOO_SOCKET_IFNAME": "lo",  # the machine's own name may not resolve inside a container
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, str(script), str(world), str(folder), *arguments]
    logs = [folder / f"rank{rank}.log" for rank in range(world)]
    with (folder / "script.log").open("w") as written:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=written, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = f"none after {SECONDS} s"
        finally:
            kill(process)
    if code != 0:
        texts = [f"{log.name}:\n{log.read_text()[-3000:]}" for log in (folder / "script.log", *logs) if log.exists()]
        raise AssertionError(f"{Path(script).name}: exit code {code}\n" + "\n".join(texts))
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(world)]


def kill(process):
    """Ends the script and all its ranks, which are one process group of their own."""
    with contextlib.suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(run):
    """The main part of a script: calls run(arguments) in each rank and saves the result."""
    world, folder, *arguments = sys.argv[1:]
    children = [start(rank, Path(folder), run, arguments) for rank in range(int(world))]
    for _ in children:
        _, status = os.wait()
        if status != 0:
            time.sleep(GRACE)
            sys.exit(1)


def start(rank, folder, run, arguments):
    child = os.fork()
    if child:
        return child
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    log = os.open(folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    faulthandler.dump_traceback_later(SECONDS - 10)  # shows where it hangs
    try:
        torch.save(run(arguments), folder / f"rank{rank}.pt")
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a forked process has nothing to clean up


def run_cases(cases):
    """An argument for `main`: runs the named cases in one process group and returns {name: case(rank, world)}."""

    def run(names):
        dist.init_process_group("gloo")
        rank, world = dist.get_rank(), dist.get_world_size()
        results = {}
        for name in names:
            print(f"case {name}", flush=True)
            results[name] = cases[name](rank, world)
        dist.barrier()
        dist.destroy_process_group()
        return results

    return run
