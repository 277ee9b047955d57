"""What is seen of a process from outside: its memory and its children's, and on a GPU its energy and clocks."""

import os
import subprocess
import sys

import psutil
import pytest
import torch

from h1r_cli.throughput.watch import Cards, Watch, cards

HOLDS = """
import subprocess, sys
held = bytearray({mib} << 20)
held[::4096] = b"x" * len(held[::4096])
pipes = {{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}}
child = {child!r} and subprocess.Popen([sys.executable, "-c", {child!r}], **pipes)
if child: child.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_peak_is_of_a_process_and_its_children_together():
    child = HOLDS.format(mib=200, child="")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS.format(mib=100, child=child)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdout.readline()
        watch = Watch(process.pid)
        watch.begin()
        reading = watch.end()
    finally:
        process.communicate("")
    assert 300 << 20 < reading.memory_bytes < 400 << 20
    assert (reading.joules, reading.clock_mhz, reading.throttled) == (None, None, None)
    watch.begin()  # it has ended: nothing is seen, and nothing breaks
    assert watch.end().memory_bytes is None


def test_memory_that_is_elsewhere_is_not_told():
    watch = Watch(os.getpid(), seen=False)
    watch.begin()
    assert watch.end().memory_bytes is None


def test_memory_that_was_given_back_stays_in_the_peak():
    watch = Watch(os.getpid())
    watch.begin()
    before = psutil.Process().memory_info().rss
    held = bytearray(300 << 20)
    held[::4096] = b"x" * len(held[::4096])
    del held
    assert watch.end().memory_bytes > before + (250 << 20)


class Nvml:
    """The calls of pynvml that are used, on two cards: bytes in use, millijoules, MHz and reasons by card."""

    NVML_CLOCK_SM = 1
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20  # noqa: N815  NVML's own names
    nvmlClocksThrottleReasonHwThermalSlowdown = 0x40  # noqa: N815
    nvmlClocksThrottleReasonSwPowerCap = 0x04  # noqa: N815
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 0x80  # noqa: N815
    nvmlClocksThrottleReasonHwSlowdown = 0x08  # noqa: N815

    def __init__(self):
        self.used, self.energy, self.clock, self.reasons = [5, 7], [1000, 0], [1500, 1700], [0, 0]

    def nvmlDeviceGetMemoryInfo(self, card):  # noqa: N802
        return type("Info", (), {"used": self.used[card]})

    def nvmlDeviceGetTotalEnergyConsumption(self, card):  # noqa: N802
        return self.energy[card]

    def nvmlDeviceGetClockInfo(self, card, kind):  # noqa: N802
        return self.clock[card]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card):  # noqa: N802
        return self.reasons[card]


def test_what_cards_say_is_summed_and_what_was_in_use_before_is_not_the_engine_s():
    nvml = Nvml()
    watch = Watch(os.getpid(), Cards(nvml, [0, 1]))
    nvml.used = [105, 207]
    watch.begin()
    nvml.energy, nvml.clock, nvml.reasons = [3000, 500], [900, 1700], [0x04, 0x40]
    watch.look()
    nvml.used, nvml.clock, nvml.reasons = [95, 107], [1500, 1980], [0, 0]
    found = watch.end()
    assert found.memory_bytes == 105 + 207 - 12
    assert found.joules == 2.5
    assert found.clock_mhz == (900, 1980)
    assert found.throttled == ("heat", "power")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and h1r[nvml]")
def test_a_card_draws_power_while_it_multiplies():
    seen = cards([0])
    if seen is None:
        pytest.skip("needs a CUDA device and h1r[nvml]")
    watch = Watch(os.getpid(), seen)
    watch.begin()
    square = torch.ones(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(2000):
        square @ square
    torch.cuda.synchronize()
    watch.look()
    found = watch.end()
    assert found.joules > 1
    assert found.clock_mhz[0] > 100
    assert found.memory_bytes > 2 * 8192 * 8192
