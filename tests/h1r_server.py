"""A real `h1r serve` of h1r-nano, as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def h1r_server(*words, **environment):
    """The root of its addresses, and its process; `words` and `environment` go to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "h1r_cli", "serve", "--model", "h1r-nano", "--port", "0", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        line = process.stderr.readline()
        assert line.startswith("serving "), line + process.stderr.read()
        yield re.search(r"http://\S+(?=/v1)", line)[0], process
    finally:
        process.kill()
        process.communicate()
