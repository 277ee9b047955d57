"""Our reinforcement learning against TRL's `GRPOTrainer` on the same model and prompts: seconds per step.

    python benchmarks/rl_peer.py --peer-python trl-env/bin/python [--batch 8x8] [--batch 16x16] [--turns 3]
        [--steps 4] [--max-tokens 128] [--trl 64] [--threads 2] [--engine torch | vllm]

TRL lives in an environment of its own:

    python3 -m venv trl-env && trl-env/bin/pip install torch==2.13.0 transformers==5.24.0 trl==1.16.0

The model is h1r-nano, float32 on the CPU; a step is PROBLEMS x GROUP rollouts of `arith`'s split `rl`, the same
problems in the same order on both sides, and one update on all of them. Ours is the loop of `h1r train-rl`, but for
one thing: groups that teach nothing are trained on too, as TRL does, so that a step generates and trains as many
rollouts on both sides. TRL generates with transformers' `generate`, ours with `--engine`. Loss ("sequence-mean",
TRL's "grpo"), clipping, temperature, learning rate, AdamW and the reward (the right number in the last box) are the
same; neither has a KL term. Ours alone has importance weights, for which it keeps what the engine's log-probabilities
were; TRL without vLLM has none.

`--trl` is how many rollouts TRL takes in one pass of training; unset, several are tried for a turn each, and the
fastest is kept. Each side is a process of its own with `--threads` threads, our judges in further ones. After
`--warmup` steps that are not timed they take turns of `--steps` steps. Give no more threads than cores are idle, or
waiting for the one that is taken is what is measured. Which rollouts are drawn is random and not the same: tokens
per step are printed, and beside the ratio of the medians of seconds per step that of seconds per generated token. Of
a step's two parts the first is its rollouts with their rewards, the second all else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rl_peer_ours import curriculum_of
from rl_peer_side import Job
from sft_peer import Side

NANO = Path(__file__).parents[1] / "plugins/h1r_plugins/models/h1r_nano"
PEER, OURS = (Path(__file__).with_name(f"rl_peer_{side}.py") for side in ("trl", "ours"))
PASSES = 4  # sizes that are tried of TRL's: a step's rollouts whole, in halves, quarters, eighths
AGREED = 0.15  # by how much the mean rewards of the two may differ: they start from the same policy
PARTS = ("step_s", "rollout_s", "tokens", "reward")

Turn = Mapping[str, list[float]]


def make_problems(job: Job) -> list[dict[str, Any]]:
    """As many as all steps take."""
    from h1r_cli.model.tokenizer import load_tokenizer
    from h1r_plugins.data.arith import arith

    tokenizer, count = load_tokenizer(NANO), job.batch * job.all_steps
    told = [
        {"question": each.text, "answer": each.answer, "prompt_ids": list(tokenizer.prompt_ids(each))}
        for each in arith(split="rl", size=count)()
    ]
    for place, problem in curriculum_of(told).problems(0, 0, count):
        told[int(problem.id)]["place"] = place
    return told


def fastest_pass(asked: argparse.Namespace, job: Job, folder: Path) -> int:
    """Of the sizes of TRL's pass that at which it is fastest, each run for a turn."""
    found = {}
    for part in range(PASSES):
        per_device = job.batch * job.group >> part
        once = replace(job, per_device=per_device, warmup=1, turns=1)
        with Side("trl", [asked.peer_python, str(PEER)], once, folder) as side:
            found[per_device] = statistics.median(side.turn()["step_s"])
        print(f"  trl, {per_device} rollouts a pass: {found[per_device]:.2f} s per step", flush=True)
    return min(found, key=found.__getitem__)


def compare(asked: argparse.Namespace, job: Job, folder: Path) -> None:
    """Print a setting's two lines and their ratio."""
    Path(job.problems).write_text(json.dumps(make_problems(job)))
    print(
        f"{job.batch} problems x {job.group} rollouts a step, at most {job.max_tokens} new tokens; "
        f"{job.turns} turns of {job.steps} steps each",
        flush=True,
    )
    job = replace(job, per_device=asked.trl or fastest_pass(asked, job, folder))
    theirs = Side("trl", [asked.peer_python, str(PEER)], job, folder)
    mine = Side("ours", [sys.executable, str(OURS)], job, folder)
    found: dict[str, list[Turn]] = {"trl": [], "ours": []}
    with theirs, mine:
        for turn in range(job.turns):
            for side in (theirs, mine) if turn % 2 == 0 else (mine, theirs):
                found[side.name].append(side.turn())
    told = {
        name: {part: [value for turn in turns for value in turn[part]] for part in PARTS}
        for name, turns in found.items()
    }
    for name, of_side in told.items():
        print(f"  {f'trl ({job.per_device} a pass)' if name == 'trl' else name:16} {described(of_side)}")
    step, token = (of(told["trl"]) / of(told["ours"]) for of in (seconds_per_step, seconds_per_token))
    print(
        f"  {'ratio':16} x {step:.2f} by seconds per step, x {token:.2f} by seconds per generated token", flush=True
    )
    rewards = [statistics.mean(of_side["reward"]) for of_side in told.values()]
    if abs(rewards[0] - rewards[1]) > AGREED:
        sys.exit(f"mean rewards are {rewards}: the two do not do the same")


def described(side: Turn) -> str:
    """A side's medians over its steps."""
    rest = [step - rollout for step, rollout in zip(side["step_s"], side["rollout_s"], strict=True)]
    return (
        f"{seconds_per_step(side):7.2f} s per step ({min(side['step_s']):.2f} to {max(side['step_s']):.2f}): "
        f"rollouts {statistics.median(side['rollout_s']):.2f}, update {statistics.median(rest):.2f}; "
        f"{statistics.median(side['tokens']):,.0f} tokens per step, {1 / seconds_per_token(side):,.0f} tokens/s; "
        f"mean reward {statistics.mean(side['reward']):.2f}"
    )


def seconds_per_step(side: Turn) -> float:
    """The median."""
    return statistics.median(side["step_s"])


def seconds_per_token(side: Turn) -> float:
    """Over all steps."""
    return sum(side["step_s"]) / sum(side["tokens"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="the interpreter of an environment with TRL")
    parser.add_argument(
        "--batch", action="append", metavar="PROBLEMSxGROUP", help="of a step, may be given again; unset: 8x8, 16x16"
    )
    parser.add_argument("--trl", type=int, metavar="ROLLOUTS", help="of one of TRL's passes; unset: the fastest")
    parser.add_argument("--max-tokens", type=int, default=128, help="of a response")
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--turns", type=int, default=3, help="of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engine", default="torch", choices=["torch", "vllm"], help="of ours")
    asked = parser.parse_args()
    for batch in asked.batch or ["8x8", "16x16"]:
        problems, group = map(int, batch.split("x"))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            job = Job(
                model=str(NANO),
                problems=str(folder / "problems.json"),
                batch=problems,
                group=group,
                max_tokens=asked.max_tokens,
                warmup=asked.warmup,
                steps=asked.steps,
                turns=asked.turns,
                threads=asked.threads,
                engine=asked.engine,
            )
            compare(asked, job, folder)


if __name__ == "__main__":
    main()
