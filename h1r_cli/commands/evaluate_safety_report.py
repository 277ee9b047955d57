"""What a run of the safety suite comes to, as report.json has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from h1r_cli.commands.evaluate_safety import JudgeRole, SafetySet
    from h1r_cli.evals.safety import Sample
    from h1r_cli.settings import EvalSettings


def safety_report(
    judged: Mapping[str, Mapping[str, Sequence[Sample]]],
    roles: Sequence[JudgeRole],
    sets: Sequence[SafetySet],
    settings: EvalSettings,
) -> dict[str, Any]:
    """As report.json has it, but for where the completions come from and what pruning does."""
    from h1r_cli.evals.safety import agreements, of_sets

    second = judged.get("second_judge")
    return {
        "suite": "safety",
        "judges": {
            role.role: {"name": role.part.name, "weak": role.weak, "options": role.part.options} for role in roles
        },
        "by_judge": {role: of_sets(by_set) for role, by_set in judged.items()},
        "agreement": {} if second is None else agreements(judged["judge"], second),
        "setup": {
            "model": settings.model,
            "engine": settings.engine.model_dump(),
            "sampling": {one.name: asdict(one.sampling) for one in sets},
            "samples": {one.name: one.samples for one in sets},
            "system_prompt": settings.system_prompt,
            "seed": settings.seed,
            "safety": settings.safety.model_dump(),
        },
    }


def pruning(judged: Mapping[str, Mapping[str, Sequence[Sample]]], files: Mapping[str, Path]) -> dict[str, Any]:
    """By judge, what the traces that DeepConf keeps come to against all; nothing without --deepconf.

    Args:
        files: each set's completions.
    """
    from h1r_cli.evals.safety_pruned import kept_places, pruned_against_all
    from h1r_cli.generation import read_rows

    kept = {name: places for name, file in files.items() if (places := kept_places(read_rows(file))) is not None}
    if len(kept) < len(files):
        return {}
    return {role: pruned_against_all(by_set, kept) for role, by_set in judged.items()}
