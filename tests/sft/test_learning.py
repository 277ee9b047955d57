"""A small nano, from scratch to right answers: the whole path from the data source to what is generated."""

from __future__ import annotations

import pytest
import torch

from h1r_cli.data.mixture import Mixture, Source
from h1r_cli.model.documents import Documents
from h1r_cli.model.load import new_model
from h1r_cli.model.tokenizer import load_tokenizer
from h1r_cli.sft.batches import Limits, batches
from h1r_cli.sft.loop import Plan, train
from h1r_cli.sft.row_loss import RowLoss
from h1r_cli.train.progress import Progress
from h1r_cli.train.ranks import ALONE
from h1r_cli.train.step import Updater
from h1r_plugins.data.arith import arith

CHAIN = {"operations": "+", "steps_min": 4, "steps_max": 4, "modulus": 10}
STEPS = 120


@torch.no_grad()
def greedy_accuracy(model, tokenizer, problems, max_tokens=50):
    """The share of problems that end in the boxed answer; every step reads all of the texts again."""
    texts = [list(tokenizer.prompt_ids(problem)) for problem in problems]
    prompts = [len(text) for text in texts]
    for _ in range(max_tokens):
        lengths = [len(text) for text in texts]
        documents = Documents.from_lengths(lengths)
        hidden = model.hidden(torch.tensor([token for text in texts for token in text]), documents)
        ends = torch.tensor(lengths).cumsum(0) - 1
        for text, token in zip(texts, model.logits(hidden[ends]).argmax(-1).tolist(), strict=True):
            text.append(token)
    replies = [text[start:] for text, start in zip(texts, prompts, strict=True)]
    ended = [reply[: reply.index(end)] if (end := tokenizer.end_ids[0]) in reply else [] for reply in replies]
    answers = [tokenizer.decode(reply).rpartition("</think>")[2].strip() for reply in ended]
    return sum(a == f"\\boxed{{{p.answer}}}" for a, p in zip(answers, problems, strict=True)) / len(problems)


@pytest.mark.slow
def test_a_small_model_learns_from_scratch_within_a_few_steps(tiny):
    model, tokenizer = new_model(tiny, seed=0), load_tokenizer(tiny)
    problems = list(arith(split="test", size=40, **CHAIN)())
    losses = []
    before = greedy_accuracy(model, tokenizer, problems)
    data = Mixture((Source(list(arith(size=1500, **CHAIN)())),))
    train(
        Updater(RowLoss(model), weight_decay=0.01, clip_norm=1.0),
        batches(data, 0, tokenizer.sample, Limits(32, 128, 4096), ALONE),
        Plan(
            steps=STEPS,
            learning_rate=8e-3,
            warmup_frac=0.04,
            checkpoint_every=STEPS,
            device=torch.device("cpu"),
            domains=data.domains,
        ),
        Progress(),
        ALONE,
        report=lambda step, metrics, batch: losses.append(metrics["train/loss_nats"]),
        save=lambda progress, loss: None,
    )
    assert losses[0] > 5  # as good as even odds among 314 tokens: ln 314 = 5.7
    assert losses[-1] < 0.1
    assert before == 0
    assert greedy_accuracy(model, tokenizer, problems) > 0.5
