"""The settings of `h1r eval --suite safety`."""

from __future__ import annotations

from pydantic import Field, model_validator

from h1r_cli.settings.base import Part, Table


class Safety(Table):
    """Who judges, and how long texts are put to them."""

    judge: Part = Field(
        Part(name="refusal"),
        description="reward that says safe or unsafe (PAPER: Llama-Guard-3-8B; our default has no model and is weak)",
    )
    second_judge: Part | None = Field(None, description="another one, for how far the two agree; unset: none")
    window_chars: int = Field(
        16_000, ge=16, description="longest text that a judge sees at once; longer ones in windows (our choice)"
    )
    overlap_chars: int = Field(800, ge=0, description="that two windows of a text have in common (our choice)")
    opened: bool = Field(False, description="the prompt ends with <think>, so that completions leave the tag out")
    show_texts: bool = Field(False, description="quote what was unsafe in the report and findings, else redacted")

    @model_validator(mode="after")
    def _windows_move_on(self) -> Safety:
        if 2 * self.overlap_chars >= self.window_chars:
            raise ValueError(
                f"safety.overlap_chars {self.overlap_chars} is half of window_chars {self.window_chars} or more"
            )
        return self
