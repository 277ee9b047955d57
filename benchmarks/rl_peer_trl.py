"""TRL's side of `rl_peer.py`, which starts it with the interpreter of TRL's own environment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rl_peer_side import CLIP_HIGH, CLIP_LOW, CLIP_NORM, LEARNING_RATE, TEMPERATURE, WEIGHT_DECAY, Job, Steps, serve

BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


def trl(job: Job, steps: Steps) -> None:
    """`GRPOTrainer`, which generates with transformers' `generate`; the reward is in this process."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    problems = sorted(json.loads(Path(job.problems).read_text()), key=lambda problem: problem["place"])
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    prompts = [[{"role": "user", "content": each["question"]}] for each in problems]
    for prompt, each in zip(prompts, problems, strict=True):
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert ids == each["prompt_ids"]

    def reward(completions: Any, completion_ids: Any, answer: Any, **_: Any) -> list[float]:
        found = [BOXED.findall(completion[-1]["content"]) for completion in completions]
        rewards = [
            float(bool(boxed) and boxed[-1].strip() == right) for boxed, right in zip(found, answer, strict=True)
        ]
        steps.rolled(sum(map(len, completion_ids)), sum(rewards) / len(rewards))
        return rewards

    class Ends(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            steps.ended()

    config = GRPOConfig(
        output_dir=str(Path(job.problems).parent / "trl"),
        max_steps=job.all_steps,
        per_device_train_batch_size=job.per_device,
        gradient_accumulation_steps=job.batch * job.group // job.per_device,
        num_generations=job.group,
        max_completion_length=job.max_tokens,
        temperature=TEMPERATURE,
        top_p=1.0,
        top_k=0,
        shuffle_dataset=False,
        loss_type="grpo",
        scale_rewards="group",
        epsilon=CLIP_LOW,
        epsilon_high=CLIP_HIGH,
        beta=0.0,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=CLIP_NORM,
        optim="adamw_torch_fused",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32),
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts, "answer": [each["answer"] for each in problems]}),
        processing_class=tokenizer,
        callbacks=[Ends()],
    ).train()


if __name__ == "__main__":
    serve(trl)
