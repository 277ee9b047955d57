"""What runs inside for tests of functions: the side that has the program, and the side that has the tests.

    inside.py serve PROGRAM REQUESTS REPLIES        calls the program's functions; knows no test
    inside.py drive TESTS REPLIES REQUESTS RESULTS  runs statements in which those functions are stand-ins

The two are processes in sandboxes of their own; one JSON text a line passes between them, plain values only: nothing
that the program defines can be unpickled, compared or called on the side that decides. Imports the standard library
alone, since the interpreter in the sandbox need not have anything else.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
import types
from collections.abc import Callable
from typing import IO, Any

LONGEST_REPLY_BYTES = 16 << 20
RAISED_BY_PROGRAM = "raised_by_program"  # an attribute of exceptions that are not the tests' own
_BOXED = {"tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: object) -> object:
    """A plain value as JSON that keeps its type; TypeError for anything else. Subclasses become what they extend."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return {"int": hex(value)} if value.bit_length() > 64 else int(value)
    if isinstance(value, float):
        return {"float": float.hex(value)}
    if isinstance(value, complex):
        return {"complex": [float.hex(value.real), float.hex(value.imag)]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, list):
        return [encode(item) for item in value]
    for name, kind in _BOXED.items():
        if isinstance(value, kind):
            return {name: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    raise TypeError(f"a value of type {type(value).__name__} is not plain")


def decode(form: Any) -> Any:
    """The value that `encode` was given; ValueError, TypeError or KeyError if `form` is none of its forms."""
    if isinstance(form, list):
        return [decode(item) for item in form]
    if not isinstance(form, dict):
        return form
    ((name, content),) = form.items()
    if name == "int":
        return int(content, 16)
    if name == "float":
        return float.fromhex(content)
    if name == "complex":
        return complex(*map(float.fromhex, content))
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "dict":
        return {decode(key): decode(item) for key, item in content}
    return _BOXED[name](decode(item) for item in content)


# --- the side that has the program --------------------------------------------------------------------------


def serve(path: str, requests: IO[bytes], replies: IO[bytes]) -> None:
    """Load the program, then answer `[function, arguments, keywords]` with `{"value": ...}` or `{"raised": ...}`."""
    module = types.ModuleType("program")
    sys.modules["program"] = module
    with open(path, encoding="utf-8") as file:
        exec(compile(file.read(), "program.py", "exec"), module.__dict__)
    for line in requests:
        name, arguments, keywords = json.loads(line)
        try:
            value = _function(module, name)(*decode(arguments), **decode(keywords))
            reply = {"value": encode(value)}
        except Exception as error:
            reply = {"raised": type(error).__name__, "text": str(error)[:200]}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


def _function(module: types.ModuleType, name: str) -> Callable[..., object]:
    """The module's function; where it has none of that name, the method of its class `Solution`."""
    solution = getattr(module, "Solution", None)
    if not hasattr(module, name) and hasattr(solution, name):
        return getattr(solution(), name)  # type: ignore[no-any-return, misc]
    return getattr(module, name)  # type: ignore[no-any-return]


# --- the side that has the tests ----------------------------------------------------------------------------


class ProgramGone(BaseException):
    """The other side answers no more."""


class Peer:
    """The functions of the program, called from here."""

    def __init__(self, replies: IO[bytes], requests: IO[bytes]) -> None:
        self.replies, self.requests, self.gone = replies, requests, False

    def function(self, name: str) -> Callable[..., object]:
        """A stand-in. It returns a plain value, or raises the built-in exception that the program raised."""

        def call(*arguments: object, **keywords: object) -> object:
            reply = self._ask([name, encode(list(arguments)), encode(keywords)])
            try:
                if "raised" not in reply:
                    return decode(reply["value"])
                kind = getattr(builtins, reply["raised"], RuntimeError)
                known = isinstance(kind, type) and issubclass(kind, Exception) and kind is not UnicodeDecodeError
                error = (kind if known else RuntimeError)(reply["text"])
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                error = RuntimeError("the program's answer is no plain value")
            setattr(error, RAISED_BY_PROGRAM, True)
            raise error

        return call

    def _ask(self, request: object) -> Any:
        try:
            self.requests.write(json.dumps(request).encode() + b"\n")
            self.requests.flush()
            line = self.replies.readline(LONGEST_REPLY_BYTES)
            if not line.endswith(b"\n"):
                raise EOFError
            return json.loads(line)
        except (OSError, EOFError, ValueError, RecursionError):
            self.gone = True
            raise ProgramGone from None


def drive(path: str, peer: Peer) -> dict[str, object]:
    """Run the statements in order; how it went: `{"passed": n}` or `{"failed": index, "why": ..., "text": ...}`."""
    with open(path, encoding="utf-8") as file:
        tests = json.load(file)
    names: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(tests["setup"], "setup", "exec"), names)
        steps = [compile(case, "test", "exec") for case in tests["cases"]]
    except Exception as error:
        return {"failed": -1, "why": "setup", "text": repr(error)[:200]}
    for name in _names_read(tests["cases"]) - set(names) - set(dir(builtins)) | set(tests["functions"]):
        names[name] = peer.function(name)
    for index, step in enumerate(steps):
        try:
            exec(step, names)
        except ProgramGone:
            break
        except Exception as error:
            theirs = getattr(error, RAISED_BY_PROGRAM, False)
            return {"failed": index, "why": "runtime_error" if theirs else "wrong_answer", "text": repr(error)[:200]}
        if peer.gone:  # whatever a test made of it
            break
    return {"failed": index, "why": "gone", "text": ""} if peer.gone else {"passed": len(steps)}


def _names_read(cases: list[str]) -> set[str]:
    nodes = (node for case in cases for node in ast.walk(ast.parse(case)))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def main(side: str, path: str, *descriptors: str) -> None:
    """One of the two sides; ends without the clean-up that a program may have asked for."""
    reader, writer = os.fdopen(int(descriptors[0]), "rb"), os.fdopen(int(descriptors[1]), "wb")
    if side == "serve":
        serve(path, reader, writer)
    else:
        os.write(int(descriptors[2]), json.dumps(drive(path, Peer(reader, writer))).encode())
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
