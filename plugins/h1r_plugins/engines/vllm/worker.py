"""What h1r adds to each vLLM worker: reading the confidences in bulk, and replacing the weights.

vLLM mixes the class into its own worker (`worker_extension_cls`); `self.model_runner` is vLLM's. A server of vLLM's
takes it too, for weights from a training run: see engine `openai`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from h1r_cli.model.device_batch import Record
from h1r_plugins.engines.vllm.confidence import ConfidenceProcessor


class H1RWorker:
    """Methods for `collective_rpc`; under tensor parallelism each rank runs them, and all give the same."""

    model_runner: Any

    def h1r_read(self, wanted: Sequence[tuple[str, int]], done: Sequence[str]) -> list[Record | None]:
        """What was drawn for each (request, begin) from that token on; then forget the requests in `done`."""
        processor = self._processor()
        processor.set_back()
        records = [processor.batch.read(*one) for one in wanted]
        for request_id in done:
            processor.leave(request_id)
        return records

    def h1r_load(self, directory: str, version: str = "") -> None:
        """Replace the model's weights by those that come in `directory`, part by part; each rank takes its share."""
        from h1r_cli.model.weight_parts import read_parts

        self.model_runner.reload_weights(weights_iterator=read_parts(Path(directory)))
        head = self.model_runner.get_model().lm_head
        if self.model_runner.model_config.hf_config.tie_word_embeddings:
            # A tied head is in no checkpoint, so vLLM's reload passes it over; on a CPU it multiplies by a packed
            # copy of the embedding, which would stay the old one.
            head.quant_method.process_weights_after_loading(head)
        self.h1r_loaded = version

    def h1r_version(self) -> str:
        """What was loaded last was said to be this; empty where nothing was since the worker started."""
        return getattr(self, "h1r_loaded", "")

    def _processor(self) -> ConfidenceProcessor:
        processors = self.model_runner.input_batch.logitsprocs.all
        return next(one for one in processors if isinstance(one, ConfidenceProcessor))
