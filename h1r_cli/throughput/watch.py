"""What a process and its children hold of memory while a batch runs, and what its GPUs do: read from outside.

Memory is the peak of what is resident, as Linux keeps it for each process: nothing looks while a batch runs on a CPU,
since each look costs a small machine some of what is measured. Pages that a process and its child share count twice,
and peaks at different moments are summed; elsewhere than on Linux memory is that before and after the batch. On GPUs
it is what the device has in use beyond what it had before the engine was started, looked at ten times a second. NVML
gives it, with energy, clocks and the reasons for which they are held down; without NVML these are None. What NVML
gives has not been run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one batch: the peak of memory in bytes, joules, the lowest and highest clock in MHz, and what throttled."""

    memory_bytes: int | None = None
    joules: float | None = None
    clock_mhz: tuple[int, int] | None = None
    throttled: tuple[str, ...] | None = None


@dataclass(slots=True)
class Watch:
    """`begin`, `end`, and with cards `look` between them; `cards` is None without GPUs or without NVML.

    Where what an engine holds is not the process's, `seen` is False and a reading has no memory.
    """

    pid: int
    cards: Cards | None = None
    seen: bool = True
    _before: int = 0
    _peak: int = 0

    @property
    def look_every_s(self) -> float | None:
        """How often to look; None for not at all."""
        return None if self.cards is None else LOOK_S

    def begin(self) -> None:
        """A batch is about to start."""
        self._peak = 0
        if self.cards is not None:
            self.cards.begin()
            self.look()
            return
        for process in self._processes():
            with suppress(OSError):  # not Linux, or it has just ended
                Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")  # forget its peak
        self._before = self._held()

    def look(self) -> None:
        """Take what is in use on the cards now into account."""
        if self.cards is not None:
            self._peak = max(self._peak, self.cards.look())

    def end(self) -> Reading:
        """What was seen since `begin`."""
        if self.cards is None:
            return Reading((max(self._before, self._held()) or None) if self.seen else None)
        self.look()
        return Reading(self._peak, self.cards.joules(), self.cards.clocks(), self.cards.throttled())

    def _processes(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.Error:  # it has just ended, which whoever speaks to it finds out
            return []

    def _held(self) -> int:
        """The peaks of all processes."""
        return sum(map(_peak_bytes, self._processes()))


def _peak_bytes(process: psutil.Process) -> int:
    """The most that was resident since it was last forgotten, or what is where the system keeps no peak."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


@dataclass(slots=True)
class Cards:
    """Some of this machine's GPUs, by NVML; made before an engine takes memory of them."""

    nvml: Any
    handles: list[Any]
    _before: int = 0
    _millijoules: int = 0
    _clocks: list[int] = field(default_factory=list)
    _reasons: int = 0

    def __post_init__(self) -> None:
        self._before = self._used()

    def begin(self) -> None:
        """A batch is about to start."""
        self._millijoules, self._clocks, self._reasons = self._energy(), [], 0

    def look(self) -> int:
        """Note clocks and throttling; the bytes in use beyond those at the start."""
        for handle in self.handles:
            self._clocks.append(self.nvml.nvmlDeviceGetClockInfo(handle, self.nvml.NVML_CLOCK_SM))
            self._reasons |= self.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        return self._used() - self._before

    def joules(self) -> float:
        """Since `begin`, of all of them."""
        return (self._energy() - self._millijoules) / 1000

    def clocks(self) -> tuple[int, int]:
        """The lowest and highest since `begin`, of the multiprocessors, in MHz."""
        return min(self._clocks), max(self._clocks)

    def throttled(self) -> tuple[str, ...]:
        """For what the clocks were held down since `begin`: heat, power, hardware."""
        names = {
            "heat": ("SwThermalSlowdown", "HwThermalSlowdown"),
            "power": ("SwPowerCap", "HwPowerBrakeSlowdown"),
            "hardware": ("HwSlowdown",),
        }
        return tuple(
            word
            for word, reasons in names.items()
            if any(self._reasons & getattr(self.nvml, f"nvmlClocksThrottleReason{reason}") for reason in reasons)
        )

    def _used(self) -> int:
        return sum(int(self.nvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in self.handles)

    def _energy(self) -> int:
        return sum(int(self.nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) for handle in self.handles)


def cards(places: Sequence[int]) -> Cards | None:
    """The GPUs at these places among those that this process may use, for the extra `nvml`; None without it."""
    try:
        import pynvml
    except ImportError:  # the columns stay empty, which the table says
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # the library without a driver
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(place) for place in range(pynvml.nvmlDeviceGetCount())]
    return Cards(pynvml, [_handle(pynvml, names[place].strip()) for place in places])


def _handle(nvml: Any, name: str) -> Any:
    return nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
