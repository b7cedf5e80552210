"""While a run goes on: a progress bar on standard error, and a clean stop at Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets instead of raising at once; a second Ctrl-C raises as ever."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, old[signal.SIGINT])

    for number in old:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def progress_bar(show: bool | None, epochs: int) -> Iterator[Callable[[int, int, int | None], None]]:
    """A function (epoch, batches done in it, batches in it) that moves a progress bar on standard error."""
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda epoch, batch, batches: None
        return
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("batches"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = list[TaskID]()

        def advance(epoch: int, batch: int, batches: int | None) -> None:
            done = batch if batches is None else (epoch - 1) * batches + batch
            total = None if batches is None else epochs * batches
            if tasks:
                bar.update(tasks[0], completed=done, epoch=epoch)
            else:  # begun where the run is, so that the time remaining is told from what is done from here on
                tasks.append(bar.add_task("training", total=total, completed=done, epoch=epoch, epochs=epochs))

        yield advance
