import pytest
import torch
from torch.nn import functional as F

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.losses._term import Epoch, Features, Run
from workflow_scripts.training.losses.deep_clustering import Loss
from workflow_scripts.training.views import Embedded

DIM, GROUPS, EACH = 8, 3, 50
RUN = Run(embed_dim=DIM, rows=GROUPS * EACH, steps=1, epochs=1, seed=0)


@pytest.fixture
def images():
    """Unit-norm embeddings in three consecutive groups."""
    torch.manual_seed(0)
    middles = torch.eye(GROUPS, DIM).repeat_interleave(EACH, 0)
    return F.normalize(middles + 0.05 * torch.randn(GROUPS * EACH, DIM), dim=1)


def _features(images):
    scale = torch.tensor(1.0)
    views = {"plain": Embedded(images, None)}
    return Features(views, scale, torch.arange(len(images)))


def _prepared(images, forgotten=None):
    torch.manual_seed(1)
    term = Loss(run=RUN, clusters=GROUPS, iterations=20)
    forget = forgotten.extend if forgotten is not None else (lambda parameters: None)
    term.before_epoch(Epoch(0, 2**62 + 3, lambda: images, forget))
    return term


def test_clusters_match_the_groups_and_centroids_have_unit_norm(images):
    term = _prepared(images)
    found = (images @ term.centroids.T).argmax(1).view(GROUPS, EACH)
    assert (found == found[:, :1]).all()
    assert len(found[:, 0].unique()) == GROUPS
    torch.testing.assert_close(term.centroids.norm(dim=1), torch.ones(GROUPS))


def test_the_loss_is_cross_entropy_with_the_nearest_centroid(images):
    term = _prepared(images)
    labels = torch.cdist(images, term.centroids).argmin(1)
    expected = -F.log_softmax(term.head(images), 1)[torch.arange(len(images)), labels].mean()
    torch.testing.assert_close(term(_features(images)), expected)


def test_the_head_is_reinitialised_each_epoch_and_trained_with_the_images(images):
    forgotten = []
    term = _prepared(images, forgotten)
    assert set(map(id, forgotten)) == set(map(id, term.head.parameters()))
    assert term.head.weight.std().item() == pytest.approx(0.01, rel=0.5)
    assert term.head.bias.abs().sum() == 0
    images = images.clone().requires_grad_()
    term(_features(images)).backward()
    assert images.grad.abs().sum() > 0
    assert term.head.weight.grad.abs().sum() > 0


def test_fewer_images_than_clusters_is_a_clear_error(images):
    with pytest.raises(StepError, match="2 images cannot be put into 3 clusters"):
        _prepared(images[:2])
