"""What the paper's run comes to: a made-up mixture of its proportions through `h1r train-sft --dry-run`.

    python benchmarks/paper_mixture.py

The paper's 3.1 M conversations (PAPER figure 3) are one in a thousand here, each drawn a thousand times an epoch, of
log-normal lengths with the mean of their domain. They are random words, so only the counts mean anything.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

DOMAINS = {  # thousands of conversations, by their shares of 3.1 M, and mean tokens (PAPER figure 3)
    "math": (1733, 17_100_000 / 1740),
    "code": (837, 9_000_000 / 840),
    "science": (310, 2_100_000 / 310),
    "other": (220, 1_900_000 / 220),
}
SPREAD = 0.6  # sigma of the logarithm; figure 2 shows log-normal lengths, its numbers are not published


def conversation(domain: str, tokens: float, draw: random.Random) -> dict[str, object]:
    """A record of about `tokens` characters of thought."""
    thought = "".join(draw.choices("abcdefghij ", k=max(8, round(tokens))))
    answer = r"\boxed{7}" if domain == "math" else "Seven."
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "reasoning": thought, "content": answer}]
    return {"messages": turns, "domain": domain}


def write(folder: Path) -> list[str]:
    """The four files, and a [[mix]] table for each."""
    draw, tables = random.Random(0), []
    for domain, (count, mean) in DOMAINS.items():
        file = folder / f"{domain}.jsonl"
        middle = math.log(mean) - SPREAD**2 / 2
        records = (conversation(domain, draw.lognormvariate(middle, SPREAD), draw) for _ in range(count))
        file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        tables.append(f'{{source = "jsonl", path = "{file}", domain = "{domain}", weight = 1000.0}}')
    return tables


def main() -> int:
    """Run the command; its exit status."""
    with TemporaryDirectory() as folder:
        mix = f"mix=[{', '.join(write(Path(folder)))}]"
        command = [*("train-sft", "--config", "falcon-h1r", "--profile", "h100x256", "--dry-run")]
        return subprocess.call([sys.executable, "-m", "h1r_cli", *command, "--model", "h1r-nano", "--set", mix])


if __name__ == "__main__":
    sys.exit(main())
