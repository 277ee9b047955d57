"""TRL's side of `sft_peer.py`, which starts it with the interpreter of TRL's own environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sft_peer_side import CLIP_NORM, LEARNING_RATE, MOST_TOKENS, Job, Turns, learnt_from, serve


def trl(job: Job, turns: Turns) -> None:
    """`SFTTrainer` on labelled token ids, so that it prepares nothing."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    found = json.loads(Path(job.data).read_text())
    conversations, order = found["conversations"], found["order"]
    labels = [[-100] * learnt_from(len(ids)) + ids[learnt_from(len(ids)) :] for ids in conversations]
    data = Dataset.from_dict({"input_ids": conversations, "labels": labels})
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    a_pass = len(conversations) // job.batch

    def run(data: Dataset, callback: TrainerCallback, **how: Any) -> None:
        model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
        turns.loaded()
        config = SFTConfig(
            output_dir=str(Path(job.data).parent / "trl"),
            gradient_accumulation_steps=job.accumulation,
            gradient_checkpointing=job.checkpointing,
            max_length=MOST_TOKENS,
            dataset_kwargs={"skip_prepare_dataset": True},
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="linear",
            warmup_steps=0,
            weight_decay=0.0,
            max_grad_norm=CLIP_NORM,
            optim="adamw_torch_fused",
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **how,
        )
        SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer, callbacks=[callback]).train()

    class Losses(TrainerCallback):
        def __init__(self) -> None:
            self.found: list[float] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                self.found.append(logs["loss"])

    class Passes(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            turns.wait()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step % a_pass == 0:
                turns.answer()

    losses = Losses()
    first = data.select(order[: job.warmup * job.batch])
    run(
        first,
        losses,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=job.per_device,
        logging_steps=1,
    )
    turns.answer(losses=losses.found, version=trl.__version__)
    run(
        data,
        Passes(),
        num_train_epochs=job.repeats + 1,  # the last is not waited for
        train_sampling_strategy=job.sampling,
        per_device_train_batch_size=job.per_device,
    )


if __name__ == "__main__":
    serve(trl)
