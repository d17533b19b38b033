"""Tower passes of loss terms."""

import pytest

from workflow_scripts.common.passes import tower_passes


@pytest.mark.parametrize(
    ("terms", "passes"),
    [
        (["mmcl"], 2 + 2),  # forward and backward, of image and text
        (["ssl"], 4 + 4),
        (["mmcl", "ssl"], 4 + 4),  # the plain views are embedded once
        (["deep_clustering"], 2 + 2),  # it looks at no caption; one is embedded nevertheless
        (["par"], 2 + 1 + 2 + 1),  # the start model has no backward pass
    ],
)
def test_passes_are_those_of_the_union_of_views(terms, passes):
    assert tower_passes(terms) == passes
