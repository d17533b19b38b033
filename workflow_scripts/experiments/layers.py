"""A run's settings as its start, its defence and its experiment change the defaults one by one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from workflow_scripts.experiments.dotted import combinations, listed, override, value_at

Spec = dict[str, Any]

# In a grid, not a key of the settings but the name of a combination of values.
VARIANT = "variant"
# No setting of a run has a meaning that depends on these, so that one value stands for all.
_INDEPENDENT = ("optimizer.", "warmup_steps", "seed", "attack.seed", "data.seed")


@dataclass(frozen=True)
class Settings:
    """The settings of runs, and where in the config each of them is given.

    Attributes:
        section: ``pretraining`` or ``cleaning``.
        spec: The settings.
        origins: Dotted key to its place in the config, for what differs from the section's own.
    """

    section: str
    spec: Spec
    origins: dict[str, str] = field(default_factory=dict)

    def over(self, place: str, values: Spec) -> "Settings":
        """Return the settings with ``values``, which are at ``place`` in the config."""
        values = {key: value for key, value in values.items() if key not in (VARIANT, "label")}
        spec = override(self.spec, values, place)
        return Settings(
            self.section, spec, self.origins | {key: f"{place}.{key}" for key in values}
        )

    def __getitem__(self, dotted: str) -> Any:
        return value_at(self.spec, dotted)

    def place(self, dotted: str) -> str:
        """Return where in the config the value of a dotted key was given."""
        found = f"{self.section}.{dotted}"
        for key, place in self.origins.items():
            if dotted == key or key.startswith(f"{dotted}."):
                found = place
            elif dotted.startswith((f"{key}.", f"{key}[")):
                found = f"{place}{dotted.removeprefix(key)}"
        return found


def start_settings(config: Spec, name: str) -> Settings:
    """Return the settings of a start, without what an experiment varies."""
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
    """Return the settings of a defence, without what is varied."""
    declared = {k: v for k, v in config["defences"][name].items() if k != "vary"}
    return Settings("cleaning", config["cleaning"]).over(f"defences.{name}", declared)


def cleaning_settings(config: Spec, experiment: str, defence: str) -> Iterator[Settings]:
    """Yield the settings of the cleaning runs of one defence in an experiment."""
    base, sweep = defence_settings(config, defence), config["defences"][defence].get("vary", {})
    for grid in listed(config["experiments"][experiment]["vary"]):
        own = {key: values for key, values in sweep.items() if key not in grid}
        for values in combinations(_shortened(grid)):
            varied = base.over(f"experiments.{experiment}.vary", values)
            for swept in combinations(_shortened(own)):
                yield varied.over(f"defences.{defence}.vary", swept)


def _shortened(grid: Spec) -> Spec:
    """Return a grid with one value of each key on which no other setting depends."""
    return {
        key: values[:1] if key.startswith(_INDEPENDENT) else values for key, values in grid.items()
    }
