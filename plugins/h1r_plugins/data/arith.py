"""Data source `arith`: made-up chains of arithmetic modulo m, with the chain of thought that solves them.

    question   Left to right, modulo 50: 3+4*9-5
    thought    3+4=7; 7*9=13; 13-5=8
    content    \\boxed{8}

Difficulty is the number of steps and the size of the numbers. A hash of the question alone says which split it
belongs to, so that `train`, `rl` and `test` share no question whatever their other options are.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from h1r_cli import hookimpl
from h1r_cli.errors import DataError
from h1r_cli.types import Conversation, DataSource, Message, Problem

Split = Literal["train", "rl", "test"]
Form = Literal["conversation", "problem"]

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
DRAWS_PER_RECORD = 1000  # in a row without a new question of the split: the options hold no more of them


@dataclass(frozen=True, slots=True)
class Chain:
    """`first`, then each operation with its operand, from left to right, modulo `modulus`."""

    first: int
    links: tuple[tuple[str, int], ...]
    modulus: int

    @property
    def question(self) -> str:
        chain = "".join(f"{sign}{operand}" for sign, operand in self.links)
        return f"Left to right, modulo {self.modulus}: {self.first}{chain}"

    def solve(self) -> tuple[str, str]:
        """The thought, one equation a step, and the answer in [0, modulus)."""
        value, lines = self.first, []
        for sign, operand in self.links:
            result = OPERATIONS[sign](value, operand) % self.modulus
            lines.append(f"{value}{sign}{operand}={result}")
            value = result
        return "; ".join(lines), str(value)


def digest(question: str) -> int:
    """64 bits of the question: its identity, and what decides its split."""
    return int.from_bytes(blake2b(question.encode(), digest_size=8).digest())


def split_of(question: str) -> Split:
    """The split that a question belongs to: of ten, seven are `train`, two `rl`, one `test`."""
    share = digest(question) % 10
    return "test" if share == 0 else "rl" if share <= 2 else "train"


def arith(
    *,
    split: Split = "train",
    size: int = 1000,
    steps_min: int = 4,
    steps_max: int = 8,
    modulus: int = 97,
    operand_min: int = 2,
    operand_max: int = 9,
    operations: str = "+-*",
    form: Form | None = None,
    seed: int = 0,
) -> DataSource:
    """`size` different questions of one split, their steps drawn evenly from `steps_min` to `steps_max`.

    `form` is "conversation" (with the thought, to train on) or "problem" (with the answer, to solve); left out,
    `train` gives conversations and the other splits problems. Tags: `steps`, `modulus`, and `difficulty`, which
    is the number of result digits that the chain has to get right.
    """
    if not (1 <= steps_min <= steps_max and 0 <= operand_min <= operand_max and modulus >= 2):
        raise DataError(
            f"arith: no chain has steps {steps_min} to {steps_max}, operands {operand_min} to {operand_max} "
            f"and modulus {modulus}",
            fix="give 1 <= steps_min <= steps_max, 0 <= operand_min <= operand_max and modulus >= 2",
        )
    if not operations or set(operations) - set(OPERATIONS):
        raise DataError(
            f"arith: operations = '{operations}'",
            known=", ".join(OPERATIONS),
            fix="name one or more of these signs, such as '+-'",
        )
    if split not in ("train", "rl", "test"):
        raise DataError(f"arith: split = '{split}'", known="train, rl, test", fix="name one of these splits")
    as_conversation = form == "conversation" if form else split == "train"

    def draw(rng: random.Random) -> Chain:
        steps = rng.randint(steps_min, steps_max)
        first = rng.randint(operand_min, operand_max)
        links = ((rng.choice(operations), rng.randint(operand_min, operand_max)) for _ in range(steps))
        return Chain(first, tuple(links), modulus)

    def records() -> Iterator[Problem | Conversation]:
        rng, seen = random.Random(seed), set[int]()
        while len(seen) < size:
            for _ in range(DRAWS_PER_RECORD):
                chain = draw(rng)
                key = digest(chain.question)
                if key not in seen and split_of(chain.question) == split:
                    break
            else:
                raise DataError(
                    f"arith: only {len(seen)} of {size} different questions found for split '{split}'",
                    fix="ask for a smaller size, more steps or a wider range of operands",
                )
            seen.add(key)
            yield conversation(chain) if as_conversation else problem(chain)

    return records


def problem(chain: Chain) -> Problem:
    """The question to solve, with its answer."""
    return Problem(name(chain), chain.question, chain.solve()[1], domain="math", tags=tags(chain))


def conversation(chain: Chain) -> Conversation:
    """The question, answered with its chain of thought."""
    thought, answer = chain.solve()
    reply = Message("assistant", f"\\boxed{{{answer}}}", reasoning=thought)
    return Conversation(name(chain), (Message("user", chain.question), reply), domain="math", tags=tags(chain))


def name(chain: Chain) -> str:
    """An id that depends on the question alone."""
    return f"arith-{digest(chain.question):016x}"


def tags(chain: Chain) -> dict[str, int]:
    steps = len(chain.links)
    return {"steps": steps, "modulus": chain.modulus, "difficulty": steps * len(str(chain.modulus - 1))}


@hookimpl
def h1r_data_sources() -> dict[str, object]:
    return {"arith": arith}
