"""`h1r serve`: any engine behind the OpenAI API."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from h1r_cli.commands.parts import Sampler
    from h1r_cli.registry import Registry
    from h1r_cli.serve.desk import Desk
    from h1r_cli.serve.voted import Voter
    from h1r_cli.settings import ServeSettings

BACKLOG = 2048
GRACE_S = 5  # for answers that are being sent when the server is to end


@click.command("serve")
@click.option("--host", help="Address to listen on; beyond this machine it takes a key.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one.  [default: 8000]")
@click.option("--served-name", help="The model's name in requests.  [default: as --model has it]")
@click.option("--api-key-env", metavar="NAME", help="Environment variable with the key.  [default: H1R_API_KEY]")
@click.option("--deepconf", is_flag=True, help="Answer each chat by DeepConf's vote, as h1r deepconf does.")
@click.option("--budget", type=click.IntRange(1), help="Traces of --deepconf.  [default: 512]")
@click.option("--reward", metavar="NAME[:key=value,...]", help="Verifier of --deepconf's vote.  [default: math]")
@options.sampling
@options.layered
@click.pass_obj
def command(registry: Registry, /, **given: Any) -> None:
    """Serve a model at /v1/completions and /v1/chat/completions, until SIGINT or SIGTERM.

    --seed is not used: a request that brings none gets a new one.
    """
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        raise MissingExtraError("starlette and uvicorn", "serve", "h1r serve")
    from h1r_cli.commands.parts import sampler
    from h1r_cli.serve.app import Served, app
    from h1r_cli.serve.desk import Desk
    from h1r_cli.serve.http import Server
    from h1r_cli.serve.shared import Shared

    settings, key = _settings(registry, given)
    sampled = sampler(registry, settings, {"chunk_tokens": 1})  # a stream brings tokens as they are drawn
    desk = Desk()
    voter = _voter(registry, settings, sampled, desk) if settings.method == "deepconf" else None
    with _listening(settings) as listener:
        server = Server(GRACE_S)
        shared = Shared(sampled.engine, server.end)
        shared.start()
        served = Served(
            settings.served_name or settings.model,
            shared,
            sampled.tokenizer,
            _vocabulary(registry, settings, sampled),
            settings.sampling,
            settings.system_prompt,
            voter,
            settings.logprobs_mode == "processed_logprobs",
            settings.reasoning,
            key,
        )
        host, port = listener.getsockname()[:2]
        click.echo(f"serving {served.name} at http://{f'[{host}]' if ':' in host else host}:{port}/v1", err=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.end())
        thread = Thread(target=server.run, args=(app(served), listener, shared.end, desk.close), name="h1r-http")
        thread.start()
        desk.run()
        thread.join()
    if shared.failure is not None:
        raise shared.failure
    shared.stop()


def _settings(registry: Registry, given: dict[str, Any]) -> tuple[ServeSettings, str | None]:
    """The settings, and the key that requests have to bring.

    Raises:
        ConfigError: an address beyond this machine without a key, or --budget without --deepconf.
    """
    from h1r_cli.settings import ServeSettings

    flags = {key: given[key] for key in ("host", "port", "served_name", "api_key_env")}
    flags |= {"method": "deepconf" if given["deepconf"] else None, "deepconf.budget": given["budget"]}
    flags["reward"] = options.part(given["reward"])
    settings = options.resolve(registry, ServeSettings, given, flags).settings
    if given["budget"] is not None and settings.method != "deepconf":
        raise ConfigError(
            "--budget is of --deepconf, which is not given", fix="add --deepconf, or leave --budget out"
        )
    key = os.environ.get(settings.api_key_env) or None
    if key is None and given["api_key_env"] is not None:
        raise ConfigError(
            f"--api-key-env {settings.api_key_env} names a variable that is not set", fix="set it, or leave that out"
        )
    if key is None and not _loopback(settings.host):
        raise ConfigError(
            f"{settings.host} can be reached from other machines, and no key is set",
            known=f"the key is read from the environment variable {settings.api_key_env}",
            fix=f"set {settings.api_key_env}, or listen on 127.0.0.1",
        )
    return settings, key


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: it may mean anything
        return False


def _listening(settings: ServeSettings) -> socket.socket:
    try:
        return socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=BACKLOG,
        )
    except OSError as error:
        raise ConfigError(
            f"{settings.host} port {settings.port} cannot be listened on: {error.strerror or error}",
            fix="give another --port, or 0 for one that is free",
        ) from error


def _vocabulary(registry: Registry, settings: ServeSettings, sampled: Sampler) -> int:
    """How many tokens the model has, by its config.json; else as many as its tokenizer."""
    from h1r_cli.build import model_directory

    file = model_directory(registry, settings.model) / "config.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("vocab_size") if file.is_file() else None
    return found if isinstance(found, int) else len(sampled.tokenizer.hub)


def _voter(registry: Registry, settings: ServeSettings, sampled: Sampler, desk: Desk) -> Voter:
    from dataclasses import replace

    from h1r_cli.build import build
    from h1r_cli.commands.voting import parts_of, voting
    from h1r_cli.deepconf.loop import Parts
    from h1r_cli.serve.voted import Voter
    from h1r_cli.types import Engine

    verifier = build(registry, "h1r_rewards", settings.reward.name, settings.reward.options, origin="[reward]")
    how = voting(registry, settings, sampled)
    verifier = desk.verifier(verifier)
    if how.judge is not None:
        how = replace(how, judge=desk.verifier(how.judge))

    def parts(engine: Engine, folder: Path) -> Parts:
        return parts_of(replace(sampled, engine=engine), how, verifier, folder)

    return Voter(settings, parts)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
