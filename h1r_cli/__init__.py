"""h1r: the Falcon-H1R recipe as one command line. A plugin needs this `hookimpl` and `h1r_cli.types`."""

import pluggy

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("h1r")

__all__ = ["__version__", "hookimpl"]
