"""Weight change from fine-tuning on poisoned pairs. An oracle, since it knows these pairs.

Source: TBAR (Abdelraheem et al., arXiv 2510.14845), whose code is not published. TBAR applies
triggers to the defender's images; here, the poisoned pairs of the attack are used directly.
"""

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import fit
from workflow_scripts.model.contrast import contrast

NEEDS = ("model", "pairs")
KNOWS = ("trigger", "target", "poisoned pairs")


def make(
    given: Given,
    *,
    steps: Annotated[int, ">= 1"] = 200,
    batch_size: Annotated[int, ">= 4"] = 64,
    learning_rate: Annotated[float, "> 0"] = 1e-5,
) -> Made:
    """Fine-tune on batches that are half poisoned, and return the change of each parameter.

    The loss is 1 - cosine similarity of the poisoned pairs plus MMCL of the clean pairs. With MMCL,
    poisoned pairs would be negatives of each other although their captions all name the same class,
    and a backdoor that is already learned would yield no direction. The model is in evaluation
    mode, so that batch norm uses the statistics of the start model and does not update them.
    ``logit_scale`` is not trained.

    Args:
        given: The model, and the pairs of its attack.
        steps: Steps of AdamW, without weight decay.
        batch_size: Pairs per step, drawn independently for each step.
        learning_rate: Learning rate, constant.

    Returns:
        The change of each parameter by name, float32.

    Raises:
        StepError: None or all of the pairs are poisoned.
    """
    poisoned = given.pairs["poisoned"].to_numpy(bool)
    kinds = np.flatnonzero(poisoned), np.flatnonzero(~poisoned)
    if not min(map(len, kinds)):
        raise StepError(
            "a task vector is learned from poisoned and clean pairs; set 'pairs' to attack"
        )
    scale = given.encoder.scale.detach()
    model, random = given.encoder.model, given.generator("task vector")
    trained = {n: p for n, p in model.named_parameters() if n not in ("logit_scale", "logit_bias")}
    before = {name: value.detach().clone() for name, value in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), learning_rate, weight_decay=0)
    losses = []
    for step in range(steps):
        bad, good = (_embedded(given, random.choice(kind, batch_size // 2)) for kind in kinds)
        loss = (1 - (bad[0] * bad[1]).sum(1)).mean() + contrast(*good, scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not step % max(1, steps // 10):
            given.log(f"step {step + 1} of {steps}: loss {losses[-1]:.4f}")
    vector = {name: value.detach() - before[name] for name, value in trained.items()}
    norm = sum(float(change.square().sum()) for change in vector.values()) ** 0.5
    report = {"oracle": True, "steps": steps, "poisoned_pairs": len(kinds[0]), "norm": norm}
    report |= {"first_loss": losses[0], "last_loss": losses[-1]}
    return Made({name: change.cpu().numpy() for name, change in vector.items()}, report)


def _embedded(given: Given, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the embeddings of the images and captions of rows, float32 [n, d], unit norm."""
    size, captions = given.encoder.image_size, given.pairs["caption"].iloc[rows].tolist()
    images = torch.stack([fit(given.images[row], size) for row in rows]).to(given.device)
    tokens = given.encoder.tokenizer()(captions).long().to(given.device)
    return given.encoder.images(images), given.encoder.texts(tokens)
