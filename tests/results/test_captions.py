"""Captions of the report render as Snakemake renders them, whatever the experiment declares."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined

FOLDER = Path(__file__).parents[2] / "rules" / "report"
EXPERIMENTS = {
    "main": {"start": ["cc6m_mmcl", "a_"], "defence": ["ssl"], "figures": {"teaser": {}}},
    "ablation_": {
        "start": ["cc6m_mmcl"],
        "vary": [{"objective.ssl": [1, 2]}, {"epochs": [5]}],
        "vary_start": {"seed": [0]},
        "figures": {"teaser": {}},
    },
}


def rendered(name, experiment="main", graph="rules", **figure):
    EXPERIMENTS[experiment]["figures"]["teaser"] = figure
    wildcards = SimpleNamespace(experiment=experiment, figure="teaser", graph=graph)
    config = {
        "all": list(EXPERIMENTS),
        "experiments": EXPERIMENTS,
        "pretraining": {"attack": {"target": "banana"}},
    }
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    text = environment.from_string((FOLDER / name).read_text()).render(
        snakemake=SimpleNamespace(
            config=config, wildcards=wildcards, params={"runs": "2 pretraining runs"}
        )
    )
    # halt_level 2: a warning of docutils would be printed into the page.
    return publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.rst")), ids=lambda path: path.stem)
def test_each_caption_renders(path):
    for graph in ("rules", "jobs"):
        assert len(rendered(path.name, graph=graph, kind="scatter")) > 60


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("kind", ["scatter", "dynamics", "trajectories", "by_value", "my/own_.py"])
def test_a_figure_says_what_was_varied_and_what_asr_is(kind, experiment):
    body = rendered("figure.rst", experiment, kind=kind, value="objective.ssl", asr_below=0.025)
    assert "target are left out" in body.replace("\n", " ")
    assert ("objective.ssl" in body) == (experiment == "ablation_" or kind == "by_value")
    if kind in ("scatter", "trajectories"):
        assert "below\n2.5 %" in body or "below 2.5 %" in body
    assert "2 pretraining runs" in body
    mine = rendered("figure.rst", experiment, kind=kind, caption="My own words.")
    assert "My own words." in mine
