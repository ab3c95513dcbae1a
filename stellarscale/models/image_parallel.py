"""Trainings in several processes with a device each, by torch's own DistributedDataParallel."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from stellarscale.errors import ModelError, RunError, StellarscaleError
from stellarscale.models.gpu_kernels import chosen_kernels
from stellarscale.models.stopping import check_stop

Message = dict[str, Any]
Tell = Callable[[Message], None]

_LISTEN_S = 0.2
_EXIT_S = 10  # that a process which failed, or was told to end, may take for it


@dataclass(frozen=True)
class Devices:
    """Where a training runs: on the CPU or on GPUs, in so many processes, with so many CPU threads in all."""

    kind: Literal["cpu", "cuda"]
    processes: int
    threads: int


@dataclass(frozen=True)
class Rank:
    """One process of a training: its number, of how many, its device."""

    index: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.index == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over the processes; the module itself where there is one."""
        if self.count == 1:
            return module
        return nn.parallel.DistributedDataParallel(
            module, device_ids=[self.index] if self.device.type == "cuda" else None
        )

    def summed(self, values: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values


def plan_devices(wanted: int | Literal["auto"], *, threads: int) -> Devices:
    """Devices of a training: the GPUs of this machine, or its CPU where there is none.

    Parameters
    ----------
    wanted : int or 'auto'
        Processes. ``auto``: one for each GPU, or one on the CPU; one in a worker that is a process.
    threads : int
        CPU threads that all of them may take.

    Raises
    ------
    ModelError
        If there are fewer GPUs than wanted, or this process may not start others.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    is_worker = multiprocessing.current_process().daemon
    processes = (1 if is_worker else max(gpus, 1)) if wanted == "auto" else wanted
    if processes < 1 or (gpus and processes > gpus):
        raise ModelError(
            "so many devices are not there", where="training.devices", seen=wanted, needed=f"1 to {gpus} or auto"
        )
    if processes > 1 and is_worker:
        raise ModelError(
            "a worker process cannot start the processes of a training",
            where="training.devices",
            seen=f"{processes} devices",
            needed="--cluster threads, or `devices: 1`",
            cause="workers that are processes may not have processes of their own",
        )
    return Devices("cuda" if gpus else "cpu", processes, max(threads, 1))


def run_ranks(work: Callable[..., Any], arguments: tuple[Any, ...], devices: Devices, listen: Tell) -> Any:
    """Call ``work(rank, tell, *arguments)`` in every process of a training; what the first one returns.

    Parameters
    ----------
    work : callable
        A module's function. What it tells in the first process reaches ``listen`` in this one.
    arguments : tuple
        The same for all processes.
    devices : Devices
        One process: this one.

    Raises
    ------
    StellarscaleError
        That a process raised.
    RunError
        If a process died.
    """
    if devices.processes > 1:
        return _run_processes(work, arguments, devices, listen)
    with cpu_threads(devices.threads), chosen_kernels(devices.kind):
        return work(Rank(0, 1, torch.device(devices.kind)), listen, *arguments)


@contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """Let torch take so many CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_processes(work: Callable[..., Any], arguments: tuple[Any, ...], devices: Devices, listen: Tell) -> Any:
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

    folder = Path(tempfile.mkdtemp(prefix="stellarscale-training-"))
    heard = _Heard(listen, multiprocessing.get_context("spawn").SimpleQueue())
    rest = (work, arguments, devices, folder / "meeting", heard.queue)
    try:
        context = start_processes(_enter, args=rest, nprocs=devices.processes, join=False, start_method="spawn")
        assert context is not None, "join=False gives a context"
        try:
            while not context.join(timeout=_LISTEN_S):
                heard.drain()
                check_stop()
        except (ProcessRaisedException, ProcessExitedException) as error:
            heard.drain()
            raise (heard.error or _died(error)) from error
        finally:
            _end(context.processes)  # none outlives an interrupt of this one
        heard.drain()
        if not heard.finished:  # torch takes a process that Ctrl-C has ended for one that is done
            check_stop()
            raise heard.error or _died(InterruptedError("a process ended without a result"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return heard.result


def _end(processes: Sequence[Any]) -> None:
    for process in processes:
        process.terminate()
    latest = time.monotonic() + _EXIT_S
    for process in processes:
        process.join(max(0.0, latest - time.monotonic()))
        if process.is_alive():
            process.kill()


class _Heard:
    """Messages of the processes: what they tell is passed on, results and errors are kept."""

    def __init__(self, listen: Tell, queue: Any) -> None:
        self.listen, self.queue = listen, queue
        self.result: Any = None
        self.finished = False
        self.error: StellarscaleError | None = None

    def drain(self) -> None:
        """Take in what has come so far."""
        while not self.queue.empty():
            kind, content = self.queue.get()
            if kind == "told":
                self.listen(content)
            elif kind == "result":
                self.result, self.finished = content, True
            else:
                self.error = self.error or content


def _enter(
    index: int, work: Callable[..., Any], arguments: tuple[Any, ...], devices: Devices, meeting: Path, queue: Any
) -> None:
    """What each process does."""
    on_gpu = devices.kind == "cuda"
    torch.set_num_threads(max(1, devices.threads // devices.processes))
    device = torch.device("cuda", index) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            init_method=f"file://{meeting}",
            rank=index,
            world_size=devices.processes,
            device_id=device if on_gpu else None,  # NCCL connects here, and what is wrong with it is told here
        )
        with chosen_kernels(devices.kind):
            result = work(Rank(index, devices.processes, device), lambda told: queue.put(("told", told)), *arguments)
        if index == 0:
            queue.put(("result", result))
        distributed.destroy_process_group()
    except Exception as error:
        _leave_soon()
        if isinstance(error, StellarscaleError):
            queue.put(("error", error))
        raise


def _leave_soon() -> None:
    """Let the system end this process in a while: taking NCCL down can mean to wait for others, who wait for it."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_EXIT_S)


def _died(error: Exception) -> RunError:
    return RunError(
        "a process of the training failed",
        seen=str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__,
        needed="all of them",
        cause="memory ran out, a GPU failed, or it was killed; the same command goes on from the last checkpoint",
    )
