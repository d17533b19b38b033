"""Checks that runs train something, and that their learning rates are what was meant."""

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.layers import Settings

_PARTS = {"scale", "image", "text"}


def check_schedule(run: Settings) -> None:
    """Check what is frozen and the shift of the schedule, for which no data have to be known.

    Raises:
        StepError: Nothing would be trained, or the schedule is over before the run begins.
    """
    epochs, shift = run["epochs"], run["schedule.shift_epochs"]
    if set(run["optimizer.freeze"] or ()) >= _PARTS and epochs:
        raise StepError(
            f"config: {run.place('optimizer.freeze')!r} names all parts of the model, so that "
            "nothing would be trained; leave one of them out"
        )
    if 0 < epochs <= shift:
        raise StepError(
            f"config: {run.place('schedule.shift_epochs')!r} is {shift}, but the run has only "
            f"{epochs} epochs ({run.place('epochs')!r}), so that its schedule is over before it "
            "begins; set the shift to 0"
        )


def check_warmup(run: Settings, pairs: int | None) -> None:
    """Check that the warm-up of a shifted schedule is shorter than the run.

    Args:
        run: The settings of the run.
        pairs: How many it trains on, if that is known.

    Raises:
        StepError: It is not, which the training would refuse.
    """
    if pairs is None or not run["schedule.shift_epochs"]:
        return
    if run["schedule.warmup_share"] is not None:
        return
    steps = run["epochs"] * (pairs // run["batch_size"])
    if run["warmup_steps"] >= steps > 0:
        raise StepError(
            f"config: {run.place('warmup_steps')!r} is {run['warmup_steps']}, but the run has only "
            f"{steps} steps, and a schedule that is shifted needs a shorter warm-up; lower it, or "
            f"set {run.place('schedule.shift_epochs')!r} to 0"
        )
