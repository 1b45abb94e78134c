"""SIGINT and SIGTERM as a wish to stop that the coordinator looks at between steps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

IMPATIENT_SECONDS = 2.0


class StopSignals:
    """While the block lasts, the first signal is noted in `received`; a second one within two
    seconds is not waited for and raises ``KeyboardInterrupt``."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is not None and now - self._at < IMPATIENT_SECONDS:
            raise KeyboardInterrupt
        self.received, self._at = number, now
