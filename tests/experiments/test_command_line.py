import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.command_line import check_targets, wanted_experiments


def test_an_unknown_target_is_rejected_with_the_closest_rule():
    rules = {"all", "main", "ablation_trigger"}
    check_targets(["main", "results/main/metrics.csv"], rules)
    with pytest.raises(StepError, match=r"unknown target 'ablation_triger'; did you mean 'abl"):
        check_targets(["all", "ablation_triger"], rules)
    with pytest.raises(StepError, match="snakemake --list"):
        check_targets(["xyz"], rules)


def test_experiments_named_as_targets_are_checked(config):
    assert wanted_experiments([], config) == set(config["all"])
    assert wanted_experiments(["ablation_trigger"], config) == {"ablation_trigger"}
    assert wanted_experiments(["results/experiments/badclip/best.csv"], config) == {"badclip"}
    assert wanted_experiments(["all", "badclip"], config) == {*config["all"], "badclip"}
    assert wanted_experiments(["all_experiments"], config) == set(config["experiments"])
    assert wanted_experiments(["preflight_badclip"], config) == {"badclip"}
    assert wanted_experiments(["plan_badclip", "main"], config) == {"badclip", "main"}
    assert wanted_experiments(["R/pages/main+badclip/index.html"], config) == {"main", "badclip"}
    assert wanted_experiments(["zoo"], config) == set(config["zoo"]["experiments"])
