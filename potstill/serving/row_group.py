"""The rows of one call between the engine's thread and the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import final

from potstill.models.local.engine import Engine
from potstill.models.local.running_batch import Row
from potstill.models.model import RowProgress
from potstill.serving.api_error import ApiError


@final
class RowGroup:
    """Rows that are written for one client; given up when nobody iterates any more.

    Args:
        engine: that writes them.
        rows: of the call.
        only_ends: whether nothing is told of a row before its end.
    """

    def __init__(self, engine: Engine, rows: Sequence[Row], *, only_ends: bool) -> None:
        self._engine, self.rows, self._only_ends = engine, rows, only_ends
        self.progress = [RowProgress()] * len(rows)
        """How far each row is; the tokens of a row that are counted here do not change any more."""
        self._place_of = {id(row): place for place, row in enumerate(rows)}
        self._has_changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def changes(self) -> AsyncGenerator[None, None]:
        """Write the rows; comes back after changes, until all are finished.

        Raises:
            ApiError: a row failed.
        """
        for row in self.rows:
            row.on_change = self._report
        try:
            self._engine.submit(self.rows)
            is_finished = False
            while not is_finished:
                await self._has_changed.wait()
                self._has_changed.clear()
                progress = list(self.progress)
                for row in self.rows:
                    if row.finish_reason == "error":
                        raise _row_error(row)
                is_finished = all(row.is_finished for row in progress)
                yield
        finally:
            open_rows = [row for row in self.rows if not row.finish_reason]
            if open_rows:
                self._engine.cancel(open_rows)

    async def finish(self) -> None:
        """Write the rows to their ends."""
        async with contextlib.aclosing(self.changes()) as changes:
            async for _ in changes:
                pass

    def _report(self, row: Row) -> None:
        """Of the engine, in its thread: a token of a row is written whole, or the row is finished."""
        is_finished = bool(row.finish_reason)
        if self._only_ends and not is_finished:
            return
        self.progress[self._place_of[id(row)]] = RowProgress(len(row.ids), is_finished=is_finished)
        with contextlib.suppress(RuntimeError):  # a loop that is closed has nobody who waits
            self._loop.call_soon_threadsafe(self._has_changed.set)


def _row_error(row: Row) -> ApiError:
    return ApiError(row.error, status=503 if "shut down" in row.error else 500)
