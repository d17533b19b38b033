"""Tower passes of loss terms."""

import pytest

from workflow_scripts.common.tower_passes import tower_passes


@pytest.mark.parametrize(
    ("terms", "passes"),
    [
        (["mmcl"], 2 + 2),  # forward and backward, for image and text
        (["ssl"], 4 + 4),
        (["mmcl", "ssl"], 4 + 4),  # plain views are shared, so embedded once
        (["deep_clustering"], 2 + 2),  # uses no caption, but one is always embedded
        (["par"], 2 + 1 + 2 + 1),  # the start model has no backward pass
    ],
)
def test_passes_are_counted_for_the_union_of_views(terms, passes):
    assert tower_passes(terms) == passes
