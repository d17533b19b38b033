"""Weights & Biases, as a guest: what goes wrong with it never touches the run."""

import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow_scripts.common.redact import redact
from workflow_scripts.training.spec import RunSpec

_PATIENCE_SECONDS = 90


class Tracker:
    """Sends a run's numbers to wandb in the mode of its spec, or does nothing.

    Each call has a time limit and any failure is one warning; after it nothing more is sent.

    Args:
        spec: The run.
        folder: The run's folder; wandb's files go below it.
        identity: The id that the run had before it was interrupted, if it was.
    """

    def __init__(self, spec: RunSpec, folder: Path, identity: str | None):
        self.identity: str | None = None
        self._run: Any = None
        if spec.wandb.mode == "disabled":
            return
        self.identity = identity or f"{spec.run}-{secrets.token_hex(4)}"
        self._attempt("start", lambda: self._start(spec, folder))

    def _start(self, spec: RunSpec, folder: Path) -> None:
        # Imported here, because it takes a second and most runs do without.
        import wandb  # noqa: PLC0415

        self._run = wandb.init(
            mode=spec.wandb.mode,
            project=spec.wandb.project,
            id=self.identity,
            name=spec.run,
            resume="allow",
            dir=str(folder),
            config={"run": spec.run, "objective": spec.objective, "attack": spec.attack},
            settings=wandb.Settings(init_timeout=_PATIENCE_SECONDS - 30, silent=True),
        )

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Send numbers of a step."""
        if self._run is not None:
            self._attempt("log", lambda: self._run.log(numbers, step=step))

    def finish(self) -> None:
        """Say good-bye."""
        if self._run is not None:
            self._attempt("finish", self._run.finish)

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        problem: list[str] = []

        def guarded() -> None:
            try:
                action()
            # Whatever a library of the network does, the training goes on.
            except BaseException as error:
                problem.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        thread.join(_PATIENCE_SECONDS)
        if thread.is_alive():
            problem.append(f"no answer in {_PATIENCE_SECONDS} seconds")
        if problem:
            self._run = None
            first = redact(problem[0].splitlines()[0])
            print(f"warning: wandb did not {what}, going on without it ({first})", file=sys.stderr)
