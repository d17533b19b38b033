"""Several processes give the same result as one process at the same global batch size.

The tower has no batch norm, whose statistics are per process, as in the published code.
"""

import os

import pytest
import torch

from workflow_scripts.common import distributed
from workflow_scripts.training import sampler

# Adam divides by the root of the mean squared gradient. Where a gradient consists of rounding only
# (key biases), a small eps would amplify it to full-sized steps.
STEPS = {"optimizer__eps": 1e-3, "optimizer__learning_rate": 0.02, "epochs": 2, "warmup_steps": 3}
OBJECTIVES = {
    "mmcl": {"mmcl": 1.0},
    "ssl": {"ssl": 1.0},
    "both": {"mmcl": 1.0, "ssl": 1.0},
}


def assert_same(runs, first, second, tolerance=1e-5):
    one, other = runs.weights(first), runs.weights(second)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            other[name], one[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n} {m}"
        )


def losses(folder):
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()[2:]]
    return [float(row[4]) for row in rows]


def test_the_bias_is_trained_by_its_term_and_identically_by_two_processes(runs, transformer):
    config = transformer | {"init_logit_scale": 2.302585, "init_logit_bias": -10}
    biased = runs.spec(model__config=config, **STEPS)
    for name, objective in (("trained", {"siglip_bias": 1.0}), ("still", {"mmcl": 1.0})):
        alone = runs.train(f"{name} alone", biased | {"objective": objective})
        together = runs.together(name, biased | {"objective": objective}, processes=2)
        assert_same(runs, alone, together)
        assert (runs.weights(alone)["logit_bias"].item() != -10) == (name == "trained")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_train_the_same_model_as_one(runs, objective, processes):
    spec = runs.spec(objective=OBJECTIVES[objective], **STEPS)
    alone = runs.train("alone", spec)
    together = runs.together("together", spec, processes=processes)
    assert losses(together) == pytest.approx(losses(alone), rel=1e-5)
    assert_same(runs, alone, together)


def _without_tf32():
    """Make GPUs multiply in full float32, so that results differ only by the order of sums."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("processes", [2, 4])
def test_several_gpus_train_the_same_model_as_one(runs, objective, processes):
    if torch.cuda.device_count() < processes:
        pytest.skip(f"there are fewer than {processes} GPUs")
    spec = runs.spec(objective=OBJECTIVES[objective], precision="fp32", **STEPS)
    on_gpus = {"prepare": _without_tf32}
    alone = runs.together("alone", spec, "--device", "cuda", processes=1, **on_gpus)
    together = runs.together("together", spec, "--device", "cuda", processes=processes, **on_gpus)
    assert losses(together) == pytest.approx(losses(alone), rel=1e-4)
    assert_same(runs, alone, together, tolerance=1e-4)


def test_training_changes_the_weights_far_beyond_the_tolerance(runs):
    before = runs.train("before", runs.spec(**STEPS | {"epochs": 0}))
    after = runs.train("after", runs.spec(**STEPS))
    with pytest.raises(AssertionError):
        assert_same(runs, before, after, tolerance=1e-3)


def _scale_gather(factor):
    def backward(context, gradient):
        return factor * gradient.chunk(context.size)[context.rank], None, None

    distributed._Gather.backward = staticmethod(backward)


def _lose_gradients():
    """Treat the embeddings from other processes as constants, like a plain all_gather."""
    _scale_gather(1)


def _count_processes_twice():
    _scale_gather(4)


def _shuffle_alone():
    """Give each process a different order of the data."""
    original = sampler.BatchSampler.__init__

    def __init__(self, rows, batch_size, seed, *place):
        original(self, rows, batch_size, seed + place[0], *place)

    sampler.BatchSampler.__init__ = __init__


@pytest.mark.parametrize("defect", [_lose_gradients, _count_processes_twice, _shuffle_alone])
def test_the_comparison_detects_defects(runs, defect):
    spec = runs.spec(objective=OBJECTIVES["mmcl"], **STEPS)
    alone = runs.train("alone", spec)
    together = runs.together("together", spec, processes=2, prepare=defect)
    with pytest.raises(AssertionError):
        assert_same(runs, alone, together)


@pytest.mark.parametrize("processes", [1, 2])
def test_accumulation_gives_the_gradient_of_the_whole_batch(runs, processes):
    spec = runs.spec(objective=OBJECTIVES["both"], **STEPS)
    whole = runs.train("whole", spec)
    # 12 or 6 pairs in 5 parts: the parts need not be equal.
    parts = runs.spec(objective=OBJECTIVES["both"], accumulation=5, **STEPS)
    accumulated = runs.together("parts", parts, processes=processes)
    assert losses(accumulated) == pytest.approx(losses(whole), rel=1e-5)
    assert_same(runs, whole, accumulated)


def test_accumulation_counts_each_micro_batch_once_in_batch_norms_statistics(runs, resnet):
    spec = runs.spec(model__config=resnet, epochs=1, accumulation=2)
    weights = runs.weights(runs.train("halves", spec))
    assert weights["visual.bn1.num_batches_tracked"] == 8


def test_evaluation_is_the_same_for_any_number_of_processes(runs, resnet):
    spec = runs.spec(model__config=resnet, epochs=0)
    alone = runs.train("alone", spec)
    for processes in (2, 3):
        together = runs.together(f"by{processes}", spec, processes=processes)
        assert runs.same(alone, together)
