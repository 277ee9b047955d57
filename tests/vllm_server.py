"""A real vLLM server on this machine's CPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

START_S = 240


@contextmanager
def vllm_server(model, name, log, *words, **environment):
    """The root of its addresses; `words` and `environment` go to it, and what it says to the file `log`."""
    root = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)),
        *("--model", str(model), "--served-model-name", name, "--dtype", "float32"),
        *("--enforce-eager", "--no-enable-prefix-caching", *words),
    ]
    given = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1", **environment}
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, **given}, start_new_session=True
        )
    try:
        until = time.monotonic() + START_S
        while not answers(f"{root}/health"):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.5)
        yield root
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def answers(url):
    try:
        with urlopen(url, timeout=2):
            return True
    except (URLError, OSError):
        return False
