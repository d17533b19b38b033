import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.zoo import zoo_files, zoo_models


def test_values_that_no_cleaned_model_has_are_rejected_when_the_zoo_is_requested(config):
    config["zoo"]["where"] = {"defence": ["MMCL + SLS"]}
    plan = expand(config)
    assert zoo_models(config, plan)  # the start models; other targets are not affected
    with pytest.raises(StepError, match=r"'zoo\.where' is .*MMCL \+ SLS.*no cleaned model of main"):
        zoo_files(config, plan)
    config["zoo"]["where"] = {"defence": ["SSL"]}
    assert "<results>/zoo/README.md" in zoo_files(config, plan)
