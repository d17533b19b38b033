"""Properties of the repository as a whole."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from workflow_scripts.common import variants
from workflow_scripts.experiments import list_variants
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.load_config import merged

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements", "requirements-torch")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _lock() -> dict[str, str]:
    text = "\n".join((ROOT / f"{name}.lock").read_text() for name in LOCKS)
    return {_normal(n): version for n, version in re.findall(r"^([\w.-]+)==([^\s\\]+)", text, re.M)}


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_both_container_recipes_build_the_same_image():
    """The Apptainer definition repeats the commands of the Dockerfile."""
    docker = (ROOT / "envs/Dockerfile").read_text().replace("\\\n    && ", "\n").replace("RUN ", "")
    apptainer = (ROOT / "envs/pipeline.def").read_text()
    commands = re.findall(r"^ *((?:apt-get|rm|make) .*?) *$", apptainer, re.M)
    assert re.findall(r"^((?:apt-get|rm|make) .*?) *$", docker, re.M) == commands
    assert len(commands) == 4
    assert re.findall(r"^FROM (.*)$", docker, re.M) == re.findall(r"^From: (.*)$", apptainer, re.M)


def test_every_pinned_package_supports_the_oldest_python_that_the_project_supports():
    oldest = _project()["requires-python"].removeprefix(">=") + ".0"
    for name in _lock():
        supported = distribution(name).metadata["Requires-Python"] or ""
        assert SpecifierSet(supported).contains(oldest), f"{name} needs Python {supported}"


def test_every_package_but_torch_is_pinned_by_digest():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if "==" in line]
    assert pins
    assert all(line.endswith("\\") for line in pins), "run `make lock`"
    torch = (ROOT / "requirements-torch.lock").read_text()
    assert set(re.findall(r"^([\w.-]+)==", torch, re.M)) == {"torch", "torchvision"}


def test_every_named_package_is_pinned():
    named = _project()["dependencies"] + _project()["optional-dependencies"]["dev"]
    assert {_normal(re.split("[<>=]", name)[0]) for name in named} <= set(_lock())


def test_torch_is_pinned_to_the_release_used_for_the_documented_numbers():
    lock = _lock()
    assert (lock["torch"], lock["torchvision"]) == ("2.14.1", "0.29.1")


def test_the_readme_says_what_each_package_is_used_for():
    readme = (ROOT / "README.md").read_text()
    assert [name for name in _project()["dependencies"] if f"`{name}`" not in readme] == []


PAGES = {page.name: page.read_text() for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_of_the_documentation_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^ {4})make ([a-z][a-z-]*)", PAGES[page], re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.parametrize("page", PAGES)
def test_every_step_of_the_documentation_exists_and_has_its_options(page):
    text = PAGES[page].replace("\\\n", " ")
    for module, arguments in re.findall(
        r"python -m ((?:workflow_scripts|benchmarks)[.\w]*)([^`\n|]*)", text
    ):
        folder = ROOT.joinpath(*module.split("."))
        files = [folder.with_suffix(".py"), *folder.glob("*.py")]
        source = "".join(file.read_text() for file in files if file.is_file())
        assert source, module
        for option in re.findall(r"(?<!\S)--[a-z-]+", arguments.partition("#")[0]):
            assert option == "--help" or f'"{option}"' in source, (module, option)


def blocks(language):
    """Yield the page and text of every code block in a language."""
    for page, text in PAGES.items():
        for block in re.findall(rf"```{language}\n(.*?)```", text, re.S):
            yield pytest.param(block, id=f"{page}: {block.splitlines()[0]}")


@pytest.mark.parametrize("page", PAGES)
def test_links_point_to_files_and_headings(page):
    folder = ROOT if (ROOT / page).exists() else ROOT / "docs"
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = folder / path if path else folder / page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert heading in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


@pytest.mark.parametrize("example", blocks("yaml"))
def test_every_config_example_is_valid_over_the_config_that_it_is_for(example):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    if "demo_" in example:
        config = merged(config, yaml.safe_load((ROOT / "profiles/demo/demo.yaml").read_text()))
    config = merged(config, yaml.safe_load(example))
    check_config(config)
    assert expand(config).runs


KINDS = {
    "class Trigger": "trigger",
    "class Loss": "loss",
    "class Augmentation": "augmentation",
    "def change": "start_change",
    "def make": "artefact",
    "def measure": "measure",
    "def choose": "victims",
    "def write": "captions",
}


@pytest.mark.parametrize("block", blocks("python"))
def test_every_variant_in_the_documentation_loads_from_a_users_file(block, tmp_path):
    (kind,) = (kind for start, kind in KINDS.items() if start in block)
    path = tmp_path / "mine.py"
    path.write_text(block)
    assert callable(variants.load(kind, str(path)))


def test_the_list_of_variants_is_that_of_the_modules():
    listed = (ROOT / "docs/variants.md").read_text().splitlines()
    assert listed == "\n".join(list_variants.lines()).splitlines(), (
        "python -m workflow_scripts.experiments.list_variants > docs/variants.md"
    )


def test_every_step_runs_with_its_errors_reported_and_garbage_collected():
    steps = [f for f in ROOT.glob("workflow_scripts/**/*.py") if "__main__" in f.read_text()]
    assert len(steps) > 30
    for step in steps:
        last = step.read_text().splitlines()[-1]
        assert re.fullmatch(r" {4}run_step\((main|lambda: sys\.exit\(main\(\)\))\)", last), step


def test_every_rule_stage_has_its_folder_of_steps():
    # Pre-training and cleaning share one trainer, in the package `training`.
    stages = {path.stem for path in (ROOT / "rules").glob("*.smk")}
    folders = {
        p.name for p in (ROOT / "workflow_scripts").iterdir() if (p / "__init__.py").is_file()
    }
    assert stages - {"pretraining", "cleaning"} <= folders
