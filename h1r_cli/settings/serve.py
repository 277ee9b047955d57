"""The settings of `h1r serve`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from h1r_cli.settings.base import Part
from h1r_cli.settings.sampled import VotedSettings


class ServeSettings(VotedSettings):
    host: str = Field("127.0.0.1", description="the address to listen on; one that is not loopback needs a key")
    port: int = Field(8000, ge=0, le=65_535, description="0: one that is free")
    served_name: str | None = Field(None, description="the model's name in requests; unset: as it is named here")
    api_key_env: str = Field("H1R_API_KEY", description="the environment variable with the key that requests bring")
    logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] = Field(
        "raw_logprobs", description="log-probabilities by the raw logits, or of the distribution that is sampled"
    )
    reasoning: bool = Field(True, description="give the thought of a chat's answer apart, as reasoning_content")
    method: Literal["samples", "deepconf"] = Field(
        "samples", description="how a chat is answered: by a sample, or by deepconf's vote ([deepconf])"
    )
    reward: Part = Field(Part(name="math"), description="verifier: extracts answers for the vote")
