"""Two made-up problems of two and one steps, scored as SciCode's task scores: a dict of steps."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageUser
from inspect_ai.scorer import SampleScore, Score, metric, scorer
from inspect_ai.solver import solver

STEPS = {"1": ["3+4+5*2", "6+1"], "2": ["9-2"]}


@solver
def stepwise():
    async def solve(state, generate):
        for step in STEPS[state.sample_id]:
            state.messages.append(ChatMessageUser(content=f"Left to right, modulo 97: {step}"))
            state = await generate(state)
        return state

    return solve


@metric
def steps_right():
    def count(scores: list[SampleScore]) -> float:
        return sum(value for one in scores for value in one.score.value.values())

    return count


@scorer(metrics=[steps_right()])
def by_step():
    async def score(state, target):
        said = [message.text for message in state.messages if message.role == "assistant"]
        value = {f"{state.sample_id}.{n}": float("boxed" in text) for n, text in enumerate(said, 1)}
        return Score(value=value | {f"{state.sample_id}.1": 1.0})

    return score


@task
def steps():
    return Task(
        dataset=[Sample(id=name, input=f"Problem {name}.") for name in STEPS], solver=stepwise(), scorer=by_step()
    )
