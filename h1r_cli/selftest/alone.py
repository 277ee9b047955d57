"""What one process can prove: packing, kernels, transformers, resuming, and the engine's log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from h1r_cli.data.chat import Sample
from h1r_cli.data.packing import row_of
from h1r_cli.generation import collect
from h1r_cli.model.documents import Documents
from h1r_cli.model.falcon_h1 import FalconH1ForCausalLM
from h1r_cli.model.kernels import PLAIN, Kernels, choose
from h1r_cli.model.load import Model
from h1r_cli.selftest.check import Check, differing, random_ids, relative
from h1r_cli.selftest.task import LENGTHS, Task, run
from h1r_cli.sft.row_loss import RowLoss, RowTensors
from h1r_cli.types import Engine, Request, Sampling

FLOAT32 = 1e-5  # relative: what rounding may do
LOGPROBS = 1e-4  # nats: an engine adds in another order, and folds weights

Make = Callable[[], Model]


def packing(make: Make, device: torch.device) -> Iterator[Check]:
    """Documents of a packed row do not see each other, and lose nothing by lying in one row."""
    model, lengths = make(), [7, 120, 31, 64]
    own, others = ([random_ids(length, 256, seed + length) for length in lengths] for seed in (0, 1000))
    with torch.no_grad():
        before = torch.split(_hidden(model, own, device), lengths)
        leaked = 0.0
        for place in range(len(lengths)):
            among_others = [*others[:place], own[place], *others[place + 1 :]]
            after = torch.split(_hidden(model, among_others, device), lengths)[place]
            leaked += differing([after], [before[place]])
        yield Check("packing: a document among other documents", leaked, 0.0)
    samples = [Sample(tuple(text), ((len(text) // 2, len(text)),)) for text in own]
    packed, packed_gradients = _loss(model, [samples], device)
    single, single_gradients = _loss(model, [[sample] for sample in samples], device)
    yield Check("packing: loss of one packed row against single rows", relative([packed], [single]), FLOAT32)
    yield Check("packing: its gradient", relative(packed_gradients, single_gradients), FLOAT32)


def kernels(make: Callable[[Kernels], Model], asked: Kernels, device: torch.device) -> Iterator[Check]:
    """The kernels that the profile asks for, against the reference path."""
    name = f"kernels: {', '.join([asked.ssm, *asked.liger])} against the reference"
    if choose(device, asked) == PLAIN:
        why = "this profile asks for the reference" if asked == Kernels() else "they need CUDA"
        yield Check(name, None, FLOAT32, why)
        return
    samples = [Sample(tuple(random_ids(length, 256, seed=length)), ((1, length),)) for length in (7, 300, 31)]
    ours, our_gradients = _loss(make(asked), [samples], device)
    reference, gradients = _loss(make(Kernels()), [samples], device)
    yield Check(name, relative([ours], [reference]), FLOAT32)
    yield Check(f"{name}, gradient", relative(our_gradients, gradients), 1e-4)


def transformers(make: Make, directory: Path, device: torch.device) -> Iterator[Check]:
    """Logits against transformers' own model."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub = AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32).to(device).eval()
    text = random_ids(90, 256, seed=3)
    model = make()
    with torch.no_grad():
        ours = model.logits(_hidden(model, [text], device))
        theirs = hub(input_ids=torch.tensor([text], device=device)).logits[0]
    yield Check(f"model: logits against transformers' {type(hub).__name__}", relative([ours], [theirs]), FLOAT32)


def resuming(task: Task) -> Iterator[Check]:
    """A run that was stopped and resumed is the run that never was."""
    whole_losses, whole = run(task, steps=4)
    with TemporaryDirectory() as folder:
        first, _ = run(task, steps=4, folder=Path(folder), stop_after=2)
        rest, resumed = run(task, steps=4, folder=Path(folder))
    wanted = [part for parts in whole.values() for part in parts.values()]
    found = [resumed[name][key] for name, parts in whole.items() for key in parts]
    lost = differing([torch.tensor(first + rest)], [torch.tensor(whole_losses)])
    yield Check("resume: weights, moments and losses of a stopped run", differing(found, wanted) + lost, 0.0)


def accumulation(task: Task) -> Iterator[Check]:
    """Many small micro-batches against one row: every learnt token of the step weighs the same."""
    one, many = (run(replace(task, row_tokens=tokens), steps=1)[1] for tokens in (sum(LENGTHS), max(LENGTHS)))
    gradients = [[parts["exp_avg"] for parts in found.values()] for found in (many, one)]
    yield Check("step: gradient by accumulation against one row", relative(*gradients), FLOAT32)


def engine(make: Make, generator: Engine, device: torch.device) -> Iterator[Check]:
    """The trainer's log-probabilities of what the engine drew against those that the engine says it drew with."""
    prompts = [tuple(random_ids(length, 256, seed=length)) for length in (5, 40, 17)]
    with generator as running:
        for number, prompt in enumerate(prompts):
            sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=24, ignore_eos=True, seed=number + 1)
            running.submit(Request(str(number), prompt, sampling))
        drawn = {done.request_id: done for done in collect(running)}
    model, worst, tokens = make(), 0.0, 0
    for number, prompt in enumerate(prompts):
        done = drawn[str(number)]
        text = [*prompt, *done.ids]
        with torch.no_grad():
            logits = model.logits(_hidden(model, [text], device)[len(prompt) - 1 : -1])
        ours = logits.float().log_softmax(-1).cpu()[range(len(done.ids)), list(done.ids)]
        worst = max(worst, float((ours - torch.tensor(done.behaviour_logprobs)).abs().max()))
        tokens += len(done.ids)
    yield Check(
        "engine: the trainer's log-probabilities against its own, in nats", worst, LOGPROBS, f"{tokens} tokens"
    )


def _hidden(model: Model, texts: list[list[int]], device: torch.device) -> Tensor:
    ids = torch.tensor([token for text in texts for token in text], device=device)
    return model.hidden(ids, Documents.from_lengths([len(text) for text in texts], device))


def _loss(model: Model, rows: list[list[Sample]], device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """The summed loss of the rows, and its gradient by parameter."""
    module = RowLoss(model)
    module.zero_grad()
    total = torch.zeros((), device=device)
    for samples in rows:
        loss = module(RowTensors.of(row_of(samples), device)).sum()
        loss.backward()
        total += loss.detach()
    return total, [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def all_of(
    make: Callable[[Kernels], Model], directory: Path, asked: Kernels, device: torch.device, generator: Engine
) -> Iterator[Check]:
    """Every check that needs one process, in order."""

    def reference() -> Model:
        return make(Kernels())

    yield from packing(reference, device)
    yield from kernels(make, asked, device)
    model = reference()
    if isinstance(model, FalconH1ForCausalLM):
        yield from transformers(reference, directory, device)
    task = Task(reference, device)
    yield from resuming(task)
    yield from accumulation(task)
    yield from engine(reference, generator, device)
