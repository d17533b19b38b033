"""What fine-tuning on poisoned pairs adds to a model's weights. An oracle: it knows these pairs.

Source: TBAR (Abdelraheem et al., arXiv 2510.14845), of which no code is published. There triggers
are put on the defender's own images; here the attack's poisoned pairs are taken as they are.
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


def make(
    given: Given,
    *,
    steps: Annotated[int, ">= 1"] = 200,
    batch_size: Annotated[int, ">= 4"] = 64,
    learning_rate: Annotated[float, "> 0"] = 1e-5,
) -> Made:
    """Fine-tune on batches of which one half is poisoned, and return the difference.

    The loss is 1 - cosine of the poisoned pairs plus MMCL of the clean ones. With MMCL the poisoned
    pairs, whose captions all name one class, would be each other's negatives, and a backdoor that
    is learned already would give no direction. The model is in evaluation mode: batch norm uses the
    start's statistics and leaves them as they are. ``logit_scale`` is not trained.

    Args:
        given: The model, and the pairs of its attack.
        steps: Of AdamW without weight decay.
        batch_size: Pairs of a step, drawn anew each time.
        learning_rate: Constant.

    Returns:
        For each parameter its change, float32, by its name.

    Raises:
        StepError: The pairs are not poisoned, or all of them are.
    """
    poisoned = given.pairs["poisoned"].to_numpy(bool)
    kinds = np.flatnonzero(poisoned), np.flatnonzero(~poisoned)
    if not min(map(len, kinds)):
        raise StepError(
            "a task vector is learned from poisoned and clean pairs; give it an attack's"
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
    """Return the embeddings of images and captions of rows, float32 [n, d], unit norm."""
    size, captions = given.encoder.image_size, given.pairs["caption"].iloc[rows].tolist()
    images = torch.stack([fit(given.images[row], size) for row in rows]).to(given.device)
    tokens = given.encoder.tokenizer()(captions).long().to(given.device)
    return given.encoder.images(images), given.encoder.texts(tokens)
