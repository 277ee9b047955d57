"""Whom a harness asks: a server that is there, or `h1r serve`, started for the run and ended with it."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h1r_cli.errors import ConfigError, EngineError, listing

if TYPE_CHECKING:
    from h1r_cli.settings import EvalSettings

CONNECT_S, ANSWER_S = 10, 600
POLL_S = 0.1
TOOL = {"name": "nothing", "description": "Does nothing.", "parameters": {"type": "object", "properties": {}}}


@dataclass(frozen=True, slots=True)
class Asked:
    """A server's address, which ends with /v1, the model's name there, and the key that it takes."""

    base_url: str
    model: str
    api_key: str


def existing(settings: EvalSettings, *, tools: bool) -> Asked:
    """The server that the settings name, once it has said which models it has.

    Args:
        tools: whether it has to call tools; it is asked once then.

    Raises:
        ConfigError: the address or the model's name is wrong. EngineError: it is not there, or refuses.
    """
    named = settings.endpoint
    base_url = (named.base_url or "").rstrip("/")
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"'{named.base_url}' is no address of a server", fix="give it as http://HOST:PORT/v1")
    key = os.environ.get(named.api_key_env) or "none"
    names = [str(model["id"]) for model in _told(f"{base_url}/models", key, named.api_key_env)["data"]]
    wanted = named.model or (names[0] if len(names) == 1 else settings.model)
    if wanted not in names:
        raise ConfigError(
            f"{base_url} has no model '{wanted}'", known=listing(names), fix="name one with --set endpoint.model=NAME"
        )
    if tools:
        _calls_tools(base_url, wanted, key, named.api_key_env)
    return Asked(base_url, wanted, key)


def _calls_tools(base_url: str, model: str, key: str, variable: str) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello."}],
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": "auto",
        "max_tokens": 1,
    }
    try:
        _told(f"{base_url}/chat/completions", key, variable, body)
    except _RefusedError as error:
        raise EngineError(
            f"{base_url} does not take tools, which the benchmark needs",
            known=error.known_part,
            fix="serve the model with tool calling, as vllm serve --enable-auto-tool-choice --tool-call-parser does",
        ) from error


class _RefusedError(EngineError):
    """What a server said is kept apart, to be quoted."""

    def __init__(self, what: str, known_part: str, fix: str) -> None:
        self.known_part = known_part
        super().__init__(what, known=known_part, fix=fix)


def _told(url: str, key: str, variable: str, body: Mapping[str, Any] | None = None) -> Any:
    """The JSON of its answer."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    asked = Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urlopen(asked, timeout=CONNECT_S if body is None else ANSWER_S) as answer:
            return json.load(answer)
    except HTTPError as error:
        said = error.read().decode(errors="replace").strip()[:500]
        fix = f"set {variable} to its key" if error.code in (401, 403) else "give the address of its API, with /v1"
        raise _RefusedError(f"{url} answers with HTTP {error.code}", f"it says: {said}", fix) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise _RefusedError(f"{url} does not answer", str(reason), "start the server, or mend --base-url") from error


@contextmanager
def served(run: Path, settings: EvalSettings) -> Iterator[Asked]:
    """`h1r serve` of the run's model on the loopback address, as long as the block lasts; it writes RUN/serve.log.

    A resumed run has the address that it had before, since a harness may have written that down.

    Raises:
        EngineError: it ended before it served; with its last lines.
    """
    from h1r_cli.launch.companion import companion, quoted

    log, table, port_file = run / "serve.log", run / "serve.toml", run / "serve.port"
    table.write_text(_table(settings), encoding="utf-8")
    port = port_file.read_text(encoding="utf-8") if port_file.exists() else "0"
    name, key = Path(settings.model).name, secrets.token_urlsafe(24)
    command = [sys.executable, "-m", "h1r_cli", "serve", "--config", str(table), "--port", port]
    before = log.stat().st_size if log.exists() else 0
    with companion([*command, "--served-name", name], {"H1R_API_KEY": key}, log) as process:
        while not (address := _address(log, before)):
            if process.poll() is not None:
                raise EngineError(
                    f"h1r serve ended with status {process.returncode} before it served '{settings.model}'",
                    known=quoted(log),
                    fix="mend that, or give the address of a server that is there as --base-url",
                )
            time.sleep(POLL_S)
        port_file.write_text(address.removesuffix("/v1").rpartition(":")[2], encoding="utf-8")
        yield Asked(address, name, key)


def _address(log: Path, before: int) -> str:
    """Where it says that it serves, in what it has said since its log had `before` bytes."""
    with log.open("rb") as file:
        file.seek(before)
        lines = file.read().decode(errors="replace").splitlines(keepends=True)
    said = [line for line in lines if line.startswith("serving ") and line.endswith("\n")]
    return said[0].split()[-1] if said else ""


def _table(settings: EvalSettings) -> str:
    """The settings that h1r serve shares with ours, as a file for its --config."""
    import tomli_w

    from h1r_cli.settings import RunSettings, SampledSettings

    shared = SampledSettings.model_fields.keys() | RunSettings.model_fields.keys()
    told = settings.model_dump(mode="json", include=set(shared), exclude_none=True)
    return tomli_w.dumps(told)
