"""What a process and its children hold of memory while a batch runs, and what its GPUs do: read from outside.

Memory is what is resident, looked at ten times a second, so that a shorter peak can be missed; pages that a process
and its child share count twice. On GPUs it is what the device has in use beyond what it had before the engine was
started. NVML gives it, with energy, clocks and the reasons for which they are held down; without NVML these are None.
What NVML gives has not been run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """`begin`, `look` again and again, `end`; `cards` is None on a machine without GPUs or without NVML."""

    pid: int
    cards: Cards | None = None
    _processes: list[psutil.Process] = field(default_factory=list)
    _peak: int = 0

    def begin(self) -> None:
        """A batch is about to start."""
        try:
            root = psutil.Process(self.pid)
            self._processes = [root, *root.children(recursive=True)]
        except psutil.Error:  # it has just ended, which whoever speaks to it finds out
            self._processes = []
        self._peak = 0
        if self.cards is not None:
            self.cards.begin()
        self.look()

    def look(self) -> None:
        """Take what is held now into account."""
        if self.cards is not None:
            self._peak = max(self._peak, self.cards.look())
            return
        held = 0
        for process in self._processes:
            try:
                held += process.memory_info().rss
            except psutil.Error:  # it has ended
                continue
        self._peak = max(self._peak, held)

    def end(self) -> Reading:
        """What was seen since `begin`."""
        self.look()
        if self.cards is None:
            return Reading(self._peak or None)
        return Reading(self._peak, self.cards.joules(), self.cards.clocks(), self.cards.throttled())


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
