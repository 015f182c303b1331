"""The memory of a process in bytes, as the kernel counts it (proc_pid_status(5)); this process where none is named."""

from __future__ import annotations

from pathlib import Path

Pid = int | str


def resident(pid: Pid = "self") -> int:
    """What it has in memory now."""
    return _counted("VmRSS", pid)


def forget_peak(pid: Pid = "self") -> None:
    """From now on `peak` knows nothing of what was before."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: Pid = "self") -> int:
    """The most that it had in memory, since it began or since `forget_peak`."""
    return _counted("VmHWM", pid)


def virtual(pid: Pid = "self") -> int:
    """All addresses that it has, used or not: what RLIMIT_AS limits."""
    return _counted("VmSize", pid)


def _counted(name: str, pid: Pid) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(kilobytes)
