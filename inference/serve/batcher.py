"""Many requests, one call of the network."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..predictor import cut, each_row
from .admission import Limits


class Pending(NamedTuple):
    """An image that waits."""

    image: np.ndarray  # (H, W, C)
    answer: "asyncio.Future[np.ndarray]"


class Batcher:
    """Gathers images and asks the network for all of them at once, on a thread of its own.

    A batch goes when it is full, when nothing else is on its way, or `limits.wait_ms` after the
    first of it was seen, whichever is first. Whoever comes alone does not wait.

    Args:
        predict: ``(N, H, W, C)`` to ``(N, ...)``.
        limits: how many, and how long.
        decoding: gives how many images are being decoded.
        observe: called with the size of each batch and the seconds it took.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], np.ndarray],
        limits: Limits,
        decoding: Callable[[], int],
        observe: Callable[[int, float], None],
    ):
        self.predict, self.limits, self.decoding, self.observe = predict, limits, decoding, observe
        self.waiting: deque[Pending] = deque()
        self.arrived = asyncio.Event()
        self.thread = ThreadPoolExecutor(1, "network")

    async def ask(self, image: np.ndarray) -> np.ndarray:
        """Return the network's prediction for one image."""
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append(Pending(image, answer))
        self.arrived.set()
        return await answer

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run anything else that is the network's work, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)

    async def work(self) -> None:
        """Predict batch after batch, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._gather()
            count = min(len(self.waiting), self.limits.batch)
            batch = [self.waiting.popleft() for _ in range(count)]
            began = loop.time()
            try:
                answers = await self.call(self.predict, np.stack([a.image for a in batch]))
            except Exception as error:
                for pending in batch:
                    if not pending.answer.done():
                        pending.answer.set_exception(error)
                continue
            self.observe(count, loop.time() - began)
            for pending, answer in zip(batch, each_row(answers), strict=True):
                if not pending.answer.done():  # its client may have gone
                    pending.answer.set_result(answer)

    async def _gather(self) -> None:
        while not self.waiting:
            self.arrived.clear()
            await self.arrived.wait()
        try:
            async with asyncio.timeout(self.limits.wait_ms / 1000):
                while self.decoding() and len(self.waiting) < self.limits.batch:
                    self.arrived.clear()
                    await self.arrived.wait()
        except TimeoutError:
            pass


def sizes_to_compile(sizes: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """Return the sizes that a predictor cuts batches of up to `batch` images into.

    Example:
        >>> sizes_to_compile((1, 8, 64, 512), 20)
        (1, 8)
    """
    return tuple(sorted({size for count in range(1, batch + 1) for size in cut(count, sizes)}))
