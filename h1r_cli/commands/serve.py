"""`h1r serve`: any engine behind the OpenAI API."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h1r_cli import hookimpl
from h1r_cli.commands import options
from h1r_cli.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from h1r_cli.commands.parts import Sampler
    from h1r_cli.registry import Registry
    from h1r_cli.serve.voted import Voter
    from h1r_cli.settings import ServeSettings

BACKLOG = 2048


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
    import uvicorn

    from h1r_cli.commands.parts import sampler
    from h1r_cli.serve.app import Served, app
    from h1r_cli.serve.shared import Shared

    settings, key = _settings(registry, given)
    sampled = sampler(registry, settings, {"chunk_tokens": 1})  # a stream brings tokens as they are drawn
    voter = _voter(registry, settings, sampled) if settings.method == "deepconf" else None
    with _listening(settings) as listener:
        server: uvicorn.Server | None = None

        def end() -> None:
            if server is not None:
                server.should_exit = True

        shared = Shared(sampled.engine, end)
        shared.start()
        served = Served(
            settings.served_name or settings.model,
            shared,
            sampled.tokenizer,
            settings.sampling,
            settings.system_prompt,
            voter,
            settings.logprobs_mode == "processed_logprobs",
            settings.reasoning,
            key,
        )
        server = uvicorn.Server(uvicorn.Config(app(served), log_level="warning", lifespan="off"))
        host, port = listener.getsockname()[:2]
        click.echo(f"serving {served.name} at http://{f'[{host}]' if ':' in host else host}:{port}/v1", err=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # uvicorn ends at them, and raises them again when it has
        server.run(sockets=[listener])
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


def _voter(registry: Registry, settings: ServeSettings, sampled: Sampler) -> Voter:
    from dataclasses import replace

    from h1r_cli.build import build
    from h1r_cli.commands.voting import parts_of, voting
    from h1r_cli.deepconf.loop import Parts
    from h1r_cli.serve.voted import Voter
    from h1r_cli.types import Engine

    verifier = build(registry, "h1r_rewards", settings.reward.name, settings.reward.options, origin="[reward]")
    how = voting(registry, settings, sampled)

    def parts(engine: Engine, folder: Path) -> Parts:
        return parts_of(replace(sampled, engine=engine), how, verifier, folder)

    return Voter(settings, parts)


@hookimpl
def h1r_commands() -> list[click.Command]:
    return [command]
