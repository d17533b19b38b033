"""MMCL with steps that take half a second longer while the working directory has a file ``slow``.

Tests can interrupt such a training at any speed of the machine, and without keeping it busy.
"""

import time
from pathlib import Path

from torch import Tensor

from workflow_scripts.training.losses import mmcl
from workflow_scripts.training.losses._term import Features


class Loss(mmcl.Loss):
    """The loss term ``slow.py``."""

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch."""
        if Path("slow").exists():
            time.sleep(0.5)
        return super().forward(features)
