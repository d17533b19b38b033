"""Settings of runs: the defaults with the overrides of a start or defence and of an experiment."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from workflow_scripts.common.errors import StepError, nearest
from workflow_scripts.experiments.dotted import combinations, listed, override, value_at

Spec = dict[str, Any]

# In a grid, not a key of the settings but the name of a combination of values.
VARIANT = "variant"
# The validity of a run does not depend on these values, so checking one of them is enough.
_INDEPENDENT = (
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "seed",
    "attack.seed",
    "data.seed",
)


def check_declared(place: str, name: str, names: Iterable[str]) -> None:
    """Raise a StepError if the value ``name`` at ``place`` in the config is none of ``names``."""
    if name not in names:
        raise StepError(
            f"config: {place!r} is {name!r}, which is not declared; {nearest(name, names)}"
        )


@dataclass(frozen=True)
class Settings:
    """The settings of runs, and the place in the config where each of them is set.

    Attributes:
        section: ``pretraining`` or ``cleaning``.
        spec: The settings.
        origins: Dotted key to its place in the config, for settings that override the section.
    """

    section: str
    spec: Spec
    origins: dict[str, str] = field(default_factory=dict)

    def over(self, place: str, values: Spec) -> "Settings":
        """Return the settings overridden by ``values``, which are at ``place`` in the config."""
        values = {key: value for key, value in values.items() if key not in (VARIANT, "label")}
        spec = override(self.spec, values, place)
        return Settings(
            self.section, spec, self.origins | {key: f"{place}.{key}" for key in values}
        )

    def __getitem__(self, dotted: str) -> Any:
        return value_at(self.spec, dotted)

    def place(self, dotted: str) -> str:
        """Return the place in the config where the value of a dotted key is set."""
        found = f"{self.section}.{dotted}"
        for key, place in self.origins.items():
            if dotted == key or key.startswith(f"{dotted}."):
                found = place
            elif dotted.startswith((f"{key}.", f"{key}[")):
                found = f"{place}{dotted.removeprefix(key)}"
        return found


def start_settings(config: Spec, name: str) -> Settings:
    """Return the settings of a start, without the values that an experiment varies."""
    defaults = Settings("pretraining", config["pretraining"])
    return defaults.over(f"starts.{name}", config["starts"][name])


def pretraining_settings(config: Spec, experiment: str, start: str) -> Iterator[Settings]:
    """Yield the settings of the pre-training runs of one start in an experiment."""
    base = start_settings(config, start)
    place = f"experiments.{experiment}.vary_start"
    for grid in listed(config["experiments"][experiment]["vary_start"]):
        for values in combinations(_shortened(grid)):
            yield base.over(place, values)


def defence_settings(config: Spec, name: str) -> Settings:
    """Return the settings of a defence, without its varied values."""
    declared = {k: v for k, v in config["defences"][name].items() if k != "vary"}
    return Settings("cleaning", config["cleaning"]).over(f"defences.{name}", declared)


def cleaning_settings(config: Spec, experiment: str, defence: str) -> Iterator[Settings]:
    """Yield the settings of the cleaning runs of one defence in an experiment."""
    base, sweep = defence_settings(config, defence), config["defences"][defence].get("vary", {})
    for grid in listed(config["experiments"][experiment]["vary"]):
        unvaried = {key: values for key, values in sweep.items() if key not in grid}
        for values in combinations(_shortened(grid)):
            varied = base.over(f"experiments.{experiment}.vary", values)
            for swept in combinations(_shortened(unvaried)):
                yield varied.over(f"defences.{defence}.vary", swept)


def _shortened(grid: Spec) -> Spec:
    """Return a grid with only the first value of each key in ``_INDEPENDENT``."""
    return {key: values[:1] if key in _INDEPENDENT else values for key, values in grid.items()}
