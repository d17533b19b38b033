"""Process a stream of items in threads (for code that releases the GIL) or processes, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, called in threads, in the order of the items.

    At most one result per thread is buffered, which bounds the memory.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from results(pool, function, ((item,) for item in items), threads)


def results(
    pool: Executor, function: Callable[..., Result], tasks: Iterable[tuple], ahead: int
) -> Iterator[Result]:
    """Yield ``function(*task)`` for each task, called in a pool, in the order of the tasks.

    Unlike ``pool.map``, at most ``ahead`` further tasks are submitted before a result is consumed.

    Args:
        pool: The pool.
        function: Function that is called in the pool.
        tasks: Arguments of the calls, read in the calling thread.
        ahead: Number of tasks in advance.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, *task))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
