"""Checks that runs train at least one part of the model, and that their schedules are valid."""

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.layers import Settings

_PARTS = {"scale", "image", "text"}


def check_schedule(run: Settings) -> None:
    """Check the frozen parts and the shift of the schedule; needs no data.

    Raises:
        StepError: All parts are frozen, or the schedule ends before the run begins.
    """
    epochs, shift = run["epochs"], run["schedule.shift_epochs"]
    if set(run["optimizer.freeze"] or ()) >= _PARTS and epochs:
        raise StepError(
            f"config: {run.place('optimizer.freeze')!r} names all parts of the model, so nothing "
            "would be trained; remove at least one of them"
        )
    if 0 < epochs <= shift:
        raise StepError(
            f"config: {run.place('schedule.shift_epochs')!r} is {shift}, but the run has only "
            f"{epochs} epochs ({run.place('epochs')!r}), so its schedule would end before it "
            "begins; set the shift to 0"
        )


def check_warmup(run: Settings, pairs: int | None) -> None:
    """Check that the warm-up of a shifted schedule is shorter than the run.

    Args:
        run: The settings of the run.
        pairs: Number of training pairs; None if it is not known.

    Raises:
        StepError: The warm-up is as long as the run or longer, which the training would refuse.
    """
    if pairs is None or not run["schedule.shift_epochs"]:
        return
    steps, share = run["epochs"] * (pairs // run["batch_size"]), run["schedule.warmup_share"]
    warmup = run["warmup_steps"] if share is None else round(share * steps)
    key = "warmup_steps" if share is None else "schedule.warmup_share"
    if warmup >= steps > 0:
        raise StepError(
            f"config: {run.place(key)!r} is {run[key]}, but the run has only {steps} steps, and "
            "the warm-up of a shifted schedule must be shorter; lower it, or set "
            f"{run.place('schedule.shift_epochs')!r} to 0"
        )
