"""What is HTTP's own: the body of a request, a client that goes, and errors in OpenAI's form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from h1r_cli.serve.answers import error
from h1r_cli.serve.asked import BadRequestError

T = TypeVar("T")


def no_route(request: Request, bad: Exception) -> Response:
    """For an address or a method that is not served."""
    status = bad.status_code if isinstance(bad, HTTPException) else 500
    return JSONResponse(error(f"{request.method} {request.url.path}: {bad}", status), status)


def bug(request: Request, bad: Exception) -> Response:
    """What is no one's fault but ours; its traceback goes to the server's standard error."""
    return JSONResponse(error(f"a fault of the server ({type(bad).__name__})", 500), 500)


async def json_of(request: Request) -> Any:
    """The body; its texts are such as can be written as UTF-8."""
    try:
        body = await request.json()
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as bad:
        raise BadRequestError(f"the body is no JSON: {type(bad).__name__}") from bad
    return body


async def until_gone(request: Request, work: Awaitable[T]) -> T:
    """What `work` comes to; it is cancelled when the client goes."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    raise ClientDisconnect


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
