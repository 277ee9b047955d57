"""Weights of a training run for vLLM servers that someone else runs.

A server takes them when it was started with

    VLLM_SERVER_DEV_MODE=1 vllm serve ... --logprobs-mode processed_logprobs
        --worker-extension-cls h1r_plugins.engines.vllm.worker.H1RWorker

which opens `/collective_rpc` and gives its workers the method that reads weights from a folder, part by part as they
are written. The folder must be the same for both sides, such as one on a network's file system; nothing but names
goes over HTTP. Development mode lets whoever reaches the port run methods of the workers: keep it in the cluster.

A server that is started anew has the weights that it was started with, and a run of GRPO would not notice at once. So
each load has a version, which is asked for after each generation.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from h1r_cli.errors import EngineError
from h1r_plugins.engines.openai.servers import CONNECT_S, Line, TryAgainError

if TYPE_CHECKING:
    from torch import Tensor

HOW = (
    "start it with VLLM_SERVER_DEV_MODE=1 and --worker-extension-cls h1r_plugins.engines.vllm.worker.H1RWorker, with "
    "h1r in its environment, and let it see engine.weights_dir"
)


class Trainee:
    """The servers of a run that trains their model."""

    def __init__(self, urls: Sequence[str], headers: Mapping[str, str], folder: Path, timeout_s: float) -> None:
        self._roots = [url.removesuffix("/v1") for url in urls]
        self._headers, self._folder, self._timeout_s = headers, folder, timeout_s
        self._loaded = ""

    def load(self, weights: Iterable[tuple[str, Tensor]], version: str) -> None:
        """Give all servers these weights; they read them while they are written.

        Raises:
            EngineError: one does not take them. The others may have them then; the next load mends it.
        """
        from h1r_cli.model.weight_parts import write_parts

        self._loaded = f"{version} of {uuid4().hex}"
        folder = self._folder.resolve() / f"h1r-{uuid4().hex}"
        folder.mkdir(parents=True)
        try:
            with ThreadPoolExecutor(len(self._roots)) as pool:
                asked = [pool.submit(self._load, root, folder) for root in self._roots]
                write_parts(weights, folder, len(asked), keep=True, check=lambda: _raise_failures(asked))
                for one in asked:
                    one.result()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def check(self) -> None:
        """Each server that answers still has what it was given.

        Raises:
            EngineError: one has other weights: it was started anew, or another run has changed them.
        """
        for root in self._roots if self._loaded else ():
            try:
                found = self._ask(root, "h1r_version", [], CONNECT_S)["results"]
            except TryAgainError:  # nor does it answer requests
                continue
            if set(found) != {self._loaded}:
                raise EngineError(
                    f"the server {root} no longer has the weights that it was given",
                    known="it was started anew, or another run has loaded its own",
                    fix="see to that, then go on with --resume: what this generation gave is not used",
                )

    def _load(self, root: str, folder: Path) -> None:
        try:
            self._ask(root, "h1r_load", [str(folder), self._loaded], self._timeout_s)
            line = Line(self._timeout_s, self._headers)
            with line.ask(f"{root}/reset_prefix_cache", {}) as response:
                cleared = json.loads(response.read())["success"]
        except TryAgainError as error:
            raise EngineError(f"the server {root} takes no weights: {error}", fix=HOW) from error
        if not cleared:
            raise EngineError(f"the server {root} did not clear its prefix cache", fix="let no one else ask it")

    def _ask(self, root: str, method: str, args: list[str], silence_s: float) -> Any:
        """What the workers' method returns, one value a worker."""
        line = Line(silence_s, self._headers)
        try:
            with line.ask(f"{root}/collective_rpc", {"method": method, "args": args}) as response:
                return json.loads(response.read())
        except EngineError as error:
            raise EngineError(f"the server {root} has no method {method}: {error}", fix=HOW) from error


def _raise_failures(asked: Sequence[Future[None]]) -> None:
    for one in asked:
        if one.done():
            one.result()
