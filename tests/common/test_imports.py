"""Steps start without importing libraries that take seconds and are not used."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("training.train", "torch"),
        ("training.process", "wandb"),
        ("captions.synonyms", "sklearn"),
        ("captions.synonyms", "scipy"),
    ],
)
def test_a_step_does_not_import_what_it_does_not_use(module, unused):
    script = (
        f"import sys, workflow_scripts.{module}\n"
        f"assert '{unused}' not in sys.modules\n"
        # It is hidden during the import only.
        f"import {unused}"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
