"""The one process of a run that is started by hand, and its device."""

from __future__ import annotations

from h1r_cli.errors import ConfigError
from h1r_cli.settings import RunSettings


def local_device(settings: RunSettings, devices: int = 1) -> str:
    """The kind of device of this process ("cpu" or "cuda"); sets the number of threads.

    Args:
        devices: how many the run can use: an engine with processes of its own may take all of this machine's.

    Raises:
        ConfigError: the profile asks for more devices, or for one that this machine does not have.
    """
    import torch

    hardware = settings.hardware
    wanted = hardware.nodes * hardware.devices_per_node
    if wanted > devices:
        raise ConfigError(
            f"the profile asks for {wanted} devices, and this run can use {devices}",
            fix="use --profile h100x1, h200x1 or cpu",
        )
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"the profile asks for {hardware.accelerator or 'a CUDA device'}, and torch finds none here",
            known=f"torch {torch.__version__}, CPU threads {torch.get_num_threads()}",
            fix="use --profile cpu, or install a CUDA build of torch",
        )
    if settings.launch.threads:
        torch.set_num_threads(settings.launch.threads)
    return hardware.device
