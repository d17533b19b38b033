"""Command lines: a profile together with a user's config file, and those in the documentation."""

import re
import shlex

import pytest
import yaml
from snakemake.cli import get_argument_parser

from tests.workflow.running import ROOT, job_counts, run
from workflow_scripts.experiments.command_line import profile_configfiles

DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("profiles/*/*.yaml"),
    *(ROOT / name for name in ("config.yaml", "Snakefile", "Makefile")),
]


def _commands(text: str) -> list[str]:
    """Return the arguments of each `snakemake ...` command in a text, without comments."""
    found = re.findall(r'\bsnakemake (?=[-\w])([^`#()"\n]*)', text)
    return [command.strip() for command in found]


def test_a_users_file_overrides_the_profile_which_overrides_the_paper(untouched):
    (untouched.folder / "mine.yaml").write_text("pretraining: {epochs: 3}\n")
    profile = ["snakemake", "--profile", "profiles/demo"]
    options = [
        "--configfile",
        "mine.yaml",
        "--config",
        "wordnet=elsewhere",
        "cluster={'account': 'me'}",
    ]
    counts = job_counts(run([*profile, "-n", "main", *options], untouched.folder))
    assert counts["cleaning"] == 18, "the demo's runs, not the paper's"
    done = run([*profile, "plan", *options], untouched.folder)
    assert done.returncode == 0, done.stdout
    config = yaml.safe_load((untouched.folder / "results/demo/workflow/config.json").read_text())
    assert (config["pretraining"]["epochs"], config["pretraining"]["batch_size"]) == (3, 64)
    assert (config["wordnet"], config["cluster"]["account"]) == ("elsewhere", "me")


def test_a_users_site_file_overrides_that_of_the_slurm_profile(untouched):
    site = untouched.folder / "profiles/slurm/site.yaml"
    site.write_text("cluster: {account: theirs, partition: {cpu: theirs, gpu: theirs}}\n")
    (untouched.folder / "mine.yaml").write_text("cluster: {partition: {gpu: mine}}\n")
    shown = run(
        [
            "snakemake",
            "--profile",
            "profiles/slurm",
            "-n",
            "-p",
            "all",
            "--configfile",
            "mine.yaml",
        ],
        untouched.folder,
    )
    assert shown.returncode == 0, shown.stdout
    partitions = set(re.findall(r"slurm_partition=(\w+)", shown.stdout))
    assert partitions == {"mine", "theirs"}
    assert "slurm_account=theirs" in shown.stdout


def test_a_profile_is_found_as_snakemake_finds_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    demo = ROOT / "profiles/demo/demo.yaml"
    for arguments in (["--profile", "profiles/demo"], ["-n", "--workflow-profile=demo", "all"]):
        assert [f.resolve() for f in profile_configfiles(arguments)] == [demo]
    assert profile_configfiles(["all", "--configfile", "mine.yaml"]) == []
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "profiles/demo")
    assert [f.resolve() for f in profile_configfiles(["all"])] == [demo]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_documented_command_has_its_target_parsed_as_a_file_or_value(document):
    for command in _commands(document.read_text()):
        given = get_argument_parser().parse_args(shlex.split(command))
        values = [*(given.config or []), *(given.resources or {})]
        assert all(file.suffix for file in given.configfile), command
        assert all(isinstance(value, str) for value in values), command
        assert given.targets or given.report or given.unlock or given.lint, command


def test_the_commands_are_found_in_the_documentation():
    commands = [command for file in DOCUMENTS for command in _commands(file.read_text())]
    assert len(commands) > 30
    assert any("--configfile" in command for command in commands)
