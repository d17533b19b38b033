"""Logging to Weights & Biases, whose failures never affect the run."""

import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow_scripts.common.redact import redact
from workflow_scripts.training.spec import RunSpec

_TIMEOUT_SECONDS = 90


class Tracker:
    """Logs a run to wandb, unless the mode in its spec is ``disabled``.

    Each call has a time limit. The first failure prints one warning and ends logging.

    Args:
        spec: The run.
        folder: The run's folder, below which wandb writes its files.
        identity: The wandb id of the run if it is resumed.
    """

    def __init__(self, spec: RunSpec, folder: Path, identity: str | None):
        self.identity: str | None = None
        self._run: Any = None
        if spec.wandb.mode == "disabled":
            return
        self.identity = identity or f"{spec.run}-{secrets.token_hex(4)}"
        self._attempt("start", lambda: self._start(spec, folder))

    def _start(self, spec: RunSpec, folder: Path) -> None:
        # Imported here: the import takes a second, and most runs do not use wandb.
        import wandb  # noqa: PLC0415

        self._run = wandb.init(
            mode=spec.wandb.mode,
            project=spec.wandb.project,
            id=self.identity,
            name=spec.run,
            resume="allow",
            dir=str(folder),
            config={"run": spec.run, "objective": spec.objective, "attack": spec.attack},
            settings=wandb.Settings(init_timeout=_TIMEOUT_SECONDS - 30, silent=True),
        )

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log the numbers of a step."""
        if self._run is not None:
            self._attempt("log", lambda: self._run.log(numbers, step=step))

    def finish(self) -> None:
        """Mark the run as finished."""
        if self._run is not None:
            self._attempt("finish", self._run.finish)

    def _attempt(self, what: str, action: Callable[[], object]) -> None:
        problem: list[str] = []

        def guarded() -> None:
            try:
                action()
            # The training must continue, whatever wandb raises.
            except BaseException as error:
                problem.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        thread.join(_TIMEOUT_SECONDS)
        if thread.is_alive():
            problem.append(f"no response within {_TIMEOUT_SECONDS} seconds")
        if problem:
            self._run = None
            reason = redact(problem[0].splitlines()[0])
            print(f"warning: wandb failed to {what}, disabled ({reason})", file=sys.stderr)
