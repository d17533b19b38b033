"""Report captions render as in Snakemake, for any declaration of an experiment."""

import functools
import html
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined

from workflow_scripts.results.best_page import as_markdown
from workflow_scripts.results.formatting import rst_text
from workflow_scripts.results.page import table_page

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


@pytest.fixture
def rendered(tmp_path):
    """A function that renders a caption with the files that it includes."""
    for name in ("reading", "code"):
        (tmp_path / f"{name}.rst").write_text(f"Words of the file {name}.\n")
    return functools.partial(_rendered, tmp_path)


def _rendered(folder, name, experiment="main", graph="rules", **figure):
    EXPERIMENTS[experiment]["figures"]["teaser"] = figure
    wildcards = SimpleNamespace(experiment=experiment, figure="teaser", graph=graph)
    output = SimpleNamespace(reading=folder / "reading.rst", note=folder / "code.rst")
    files = {"input": SimpleNamespace(code=folder / "code.rst"), "output": output}
    config = {
        "all": list(EXPERIMENTS),
        "experiments": EXPERIMENTS,
        "pretraining": {"attack": {"target": "banana"}},
    }
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    text = environment.from_string((FOLDER / name).read_text()).render(
        snakemake=SimpleNamespace(config=config, wildcards=wildcards, **files)
    )
    # halt_level 2: docutils prints warnings into the page.
    return publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.rst")), ids=lambda path: path.stem)
def test_each_caption_renders(rendered, path):
    for graph in ("rules", "jobs"):
        assert len(rendered(path.name, graph=graph, kind="scatter")) > 60


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("kind", ["scatter", "dynamics", "trajectories", "by_value", "my/own_.py"])
def test_a_figures_caption_names_the_varied_keys_and_includes_numbers_and_code(
    rendered, kind, experiment
):
    body = rendered("figure.rst", experiment, kind=kind, value="objective.ssl", asr_below=0.025)
    assert "excluding images whose true class is the target" in body.replace("\n", " ")
    assert ("objective.ssl" in body) == (experiment == "ablation_" or kind == "by_value")
    assert "Words of the file reading." in body
    assert "Words of the file code." in body
    if kind in ("scatter", "trajectories"):
        assert "below\n2.5 %" in body or "below 2.5 %" in body
    mine = rendered("figure.rst", experiment, kind=kind, caption="My own words.")
    assert "My own words." in mine


HOSTILE = (
    "<script>alert(1)</script>",
    "x\n\n.. include:: /etc/passwd",
    ".. include:: /etc/passwd",
    "x\n\n.. raw:: html\n\n   <script>alert(1)</script>",
    "`x <javascript:alert(1)>`_ **bold** :math:`x` |x| x_",
    "- a list::",
    "\\ `",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_user_texts_are_shown_and_never_interpreted(rendered, text, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS["ablation_"], "vary", [{text: [1]}])
    words = html.escape(" ".join(text.split()), quote=False)
    mine = rendered("figure.rst", kind="scatter", caption=text, over=[text])
    labelled = rendered("figure.rst", kind="scatter", under=["x"], under_label=text)
    keyed = rendered("figure.rst", "ablation_", kind=text, value=text)
    for body in (mine, labelled):
        assert words in " ".join(body.split())
    for body in (mine, labelled, keyed, rendered("workflow.rst")):
        assert "root:" not in body
        assert "<script>" not in body
        assert 'javascript:alert(1)"' not in body


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_survives_conversion_to_restructuredtext(text):
    body = publish_parts(rst_text(text), writer="html", settings_overrides={"halt_level": 2})[
        "body"
    ]
    assert " ".join(body.split()) == f"<p>{html.escape(' '.join(text.split()), quote=False)}</p>"


def test_pages_and_tables_escape_labels():
    page = table_page(HOSTILE[0], [HOSTILE[0]], [[HOSTILE[0]]], above=HOSTILE, below=HOSTILE)
    assert "<script>" not in page
    markdown = as_markdown(pd.DataFrame({"a|b": ["<script>\n\n# x|y"]}), [])
    assert markdown.count("<script>") == markdown.count("\\<script>") == 1
    assert markdown.splitlines()[2].count("|") - markdown.splitlines()[2].count("\\|") == 2
