"""An engine in a process of its own, as the measuring process sees it: started, driven, watched, ended.

Only one seat has the floor at a time. Where engines cannot be resident together, whoever has it not is asleep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Literal

from h1r_cli.settings import RunSettings
from h1r_cli.throughput.cell import Cell, Measured
from h1r_cli.throughput.orders import Action, Begin, Do, FindPeaks, Peaks, Trouble
from h1r_cli.throughput.watch import Cards, Reading, Watch

Serve = Callable[[Connection, RunSettings], None]
Lost = Literal["out-of-memory", "failed"]
END_S = 10.0  # for a process to end by itself


class SeatLostError(Exception):
    """The engine is gone; `kind` says whether for want of memory."""

    def __init__(self, kind: Lost, why: str, trace: str = "") -> None:
        self.kind, self.why, self.trace = kind, why, trace
        super().__init__(why)


@dataclass(slots=True)
class Floor:
    """Who is being measured. With `alone` all others that run are put to sleep before it begins.

    One that is lost when it is put to sleep says so itself, at its next turn.
    """

    alone: bool
    seats: list[Seat] = field(default_factory=list)

    def give(self, seat: Seat) -> bool:
        """Let `seat` run, started or awake; whether it was asleep or down."""
        if seat not in self.seats:
            self.seats.append(seat)
        if self.alone:
            for other in self.seats:
                if other is not seat:
                    other.sleep()
        return seat.rouse()


@dataclass(slots=True, eq=False)
class Seat:
    """One side's engine; `loaded` is what it holds once it has started, where its memory is `seen`.

    `refused` has by name the engines of the run that did not start, and are not tried again.
    """

    serve: Serve
    settings: RunSettings
    floor: Floor
    name: str
    refused: dict[str, SeatLostError]
    cards: Cards | None = None
    seen: bool = True
    loaded: Reading = field(default_factory=Reading)
    _state: Literal["down", "awake", "asleep"] = "down"
    _fallen: SeatLostError | None = None  # lost when it was put to sleep
    _process: Any = None
    _pipe: Any = None
    _watch: Watch | None = None

    def rouse(self) -> bool:
        """Start it or wake it where that is due, and say whether it was.

        Raises:
            SeatLostError: it does not start, or was lost when it was put to sleep.
        """
        if self._fallen is not None:
            fallen, self._fallen = self._fallen, None
            raise fallen
        if self._state == "awake":
            return False
        if self._state == "asleep":
            self.ask(Do("wake"))
        else:
            self._start()
        self._state = "awake"
        return True

    def sleep(self) -> None:
        """Give the memory back until it is roused."""
        if self._state != "awake":
            return
        try:
            self.ask(Do("sleep"))
            self._state = "asleep"
        except SeatLostError as error:
            self._fallen = error

    def begin_cell(self) -> None:
        """What befell it in the cell before is that cell's."""
        self._fallen = None

    def ask(self, order: object) -> Any:
        """The answer to an order.

        Raises:
            SeatLostError: the process ended, or its engine did.
        """
        return self.watched(order)[0]

    def watched(self, order: object) -> tuple[Any, Reading]:
        """The answer, and what was seen until it came."""
        watch = self._watch
        if watch is None:
            raise AssertionError("the seat has not been started")
        try:
            watch.begin()
            if order is not None:
                self._pipe.send(order)
            while not self._pipe.poll(watch.look_every_s):
                watch.look()
            reading = watch.end()
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if isinstance(answer, Trouble):
            self.stop()
            raise SeatLostError("out-of-memory" if answer.out_of_memory else "failed", answer.error, answer.trace)
        return answer, reading

    def peaks(self) -> Peaks:
        """What the device can do, measured with nothing else running."""
        self.floor.give(self)
        found: Peaks = self.ask(FindPeaks())
        return found

    def stop(self) -> None:
        """End the process; it can be roused again."""
        if self._process is None:
            return
        self._pipe.close()
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process, self._pipe, self._watch, self._state = None, None, None, "down"

    def _start(self) -> None:
        if self.name in self.refused:
            raise self.refused[self.name]
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # no daemon, which could not start the processes that vLLM needs
        self._process = context.Process(target=self.serve, args=(theirs, self.settings), daemon=False)
        self._process.start()
        theirs.close()
        self._watch = Watch(self._process.pid, self.cards, self.seen)
        try:
            self.ask(None)
        except SeatLostError as error:
            self.refused[self.name] = error
            raise
        self._watch.begin()
        self.loaded = self._watch.end()

    def _ended(self) -> SeatLostError:
        self._process.join(END_S)
        code = self._process.exitcode
        self.stop()
        if code == -9:
            why = "out of memory: its process was killed, as the kernel does when memory runs out"
            return SeatLostError("out-of-memory", why)
        return SeatLostError("failed", f"its process ended with exit status {code}")


@dataclass(slots=True)
class SeatBench:
    """A cell on a seat's engine: a `Measurable`, whose engine may be lost on the way."""

    seat: Seat
    begin: Begin
    readings: list[Reading] = field(default_factory=list)
    _found: Measured | None = None
    _lost: SeatLostError | None = None

    def warm_up(self) -> None:
        """See `Bench`; the cell is begun with it."""
        self.seat.begin_cell()
        try:
            self.seat.floor.give(self.seat)
            self.seat.ask(self.begin)
        except SeatLostError as error:
            self._lost = error
        self._do("warm-up")

    def repeat(self) -> None:
        """See `Bench`. After a sleep a batch is run for nothing first."""
        try:
            slept = self._lost is None and self.seat.floor.give(self.seat)
        except SeatLostError as error:
            self._lost = error
            return
        if slept:
            self._do("settle")
        self._do("repeat")

    def measured(self) -> Measured:
        """See `Bench`; where the engine was lost, what there was until then does not count."""
        if self._lost is not None:
            return Measured(self.cell, (), (), (self._lost.why,), self._lost.kind)
        if self._found is None:
            raise AssertionError("the cell has not been warmed up")
        return self._found

    @property
    def cell(self) -> Cell:
        return self.begin.cell

    @property
    def trace(self) -> str:
        """Where the engine was lost by an error, its traceback."""
        return "" if self._lost is None else self._lost.trace

    def _do(self, action: Action) -> None:
        if self._lost is not None:
            return
        try:
            self._found, reading = self.seat.watched(Do(action))
        except SeatLostError as error:
            self._lost = error
            return
        if action == "repeat":
            self.readings.append(reading)
