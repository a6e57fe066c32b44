"""Runs a script in several processes that find each other over gloo, and brings back what each of them saved.

    python script.py WORLD FOLDER ARGUMENT ...

The script imports what it needs, once, and `main` forks it into the ranks, with the environment that torchrun sets. A
rank saves its results in FOLDER/rank<r>.pt and writes to FOLDER/rank<r>.log. One that fails, or all that hang, end the
run with an AssertionError that shows what they wrote.
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
GRACE = 5  # for the others once one has failed: they wait for it in vain


def run_ranks(script, world, folder, *arguments):
    """[results of rank 0, results of rank 1, ...]"""
    # The store is kept here, on a port that the system chose: no rank can find its port taken.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # rank 0, too, is a client of this store
        "GLOO_SOCKET_IFNAME": "lo",  # the machine's own name may mean nothing inside a container
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
    """The script and all its ranks, which are a process group of their own."""
    with contextlib.suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(run):
    """A script's main part: run(arguments) in each rank; what it returns is saved."""
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
    faulthandler.dump_traceback_later(SECONDS - 10)  # where it hangs, if it does
    try:
        torch.save(run(arguments), folder / f"rank{rank}.pt")
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a fork has nothing of its own to clean up


def run_cases(cases):
    """For `main`: {name: case(rank, world)} of the named cases, in one process group."""

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
