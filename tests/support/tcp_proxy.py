"""A TCP proxy: a line to a server that can be cut and mended, be slow or silent, or lead elsewhere."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.servers import free_port


class TcpProxy:
    """Listens on `port` and passes on to `target`, until it is cut; bytes arrive `delay` seconds late."""

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self.port = free_port()
        self.target = target
        self.delay = delay
        self.made = 0  # connections, so far
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers = asyncio.Event()
        self._answers.set()

    async def __aenter__(self) -> TcpProxy:
        await self.mend()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """No connection survives, and none can be made."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.drop()

    async def drop(self) -> None:
        """No connection survives."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def hold_answers(self) -> None:
        """Nothing comes back from the server any more, though all connections seem to live."""
        self._answers.clear()

    def pass_answers(self) -> None:
        self._answers.set()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.made += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        writers = [writer]
        free = asyncio.Event()
        free.set()
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(there[1])
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, there[1], free))
                both.create_task(self._copy(there[0], writer, self._answers))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in writers:
                end.close()

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
    ) -> None:
        loop = asyncio.get_running_loop()
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(10_000)

        async def write() -> None:
            while True:
                due, data = await late.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                await gate.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            with contextlib.suppress(OSError):
                writer.write_eof()

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            data = b"any"
            while data:
                data = await reader.read(65536)
                await late.put((loop.time() + self.delay, data))
