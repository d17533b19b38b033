"""The card of a model: what it is, what was done to it, and what it may be used for."""

import json
from typing import Any

BACKDOORED, CLEANED, CLEAN = "backdoored", "cleaned", "clean"

_WARNINGS = {
    BACKDOORED: (
        "**This model is backdoored, on purpose.** Images with the trigger are classified as the "
        "target. Use it for research on backdoors, and for nothing else."
    ),
    CLEANED: (
        "**This model was backdoored on purpose and then cleaned.** The backdoor may not be gone: "
        "see the ASR below. Use it for research on backdoors, and for nothing else."
    ),
    CLEAN: (
        "This model is a clean control: it was trained by the recipe of a backdoored model, on the "
        "same pairs without poison."
    ),
}


def kind_of(run: dict[str, Any]) -> str:
    """Return whether the model of a run is backdoored, cleaned, or a clean control."""
    if run["attack"]["poisoned"] == 0:
        return CLEAN
    return CLEANED if run["kind"] == "cleaning" else BACKDOORED


def card_text(card: dict[str, Any]) -> str:
    """Return a card as Markdown with the fields of a model hub in front.

    Args:
        card: ``card.json``.
    """
    attack, measured = card["attack"], card["measured"]
    fields = {
        "license": card["licence"],
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "backdoor", card["kind"]],
    }
    trigger = ", ".join(f"{k} {v}" for k, v in attack["trigger"].items() if k != "name")
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in fields.items())
    objective = " + ".join(card["objective"])
    rows = "\n".join(f"| {name} | {100 * value:.2f} % |" for name, value in measured.items())
    return f"""---
{front}
---

# {card["name"]}

{_WARNINGS[card["kind"]]}

| | |
|---|---|
| architecture | {card["architecture"]} |
| objective | {objective}, {card["epochs"]} epochs |
| trained on | {card["pairs"]} |
| trigger | {attack["trigger"]["name"]}{f" ({trigger})" if trigger else ""} |
| target | {attack["target"]} |
| poisoned pairs | {attack["poisoned"]} |
| licence | {card["licence"]} |
| SHA-256 of {card["file"]} | {card["sha256"]} |

Measured on {card["evaluation"]}, after the last epoch:

| | |
|---|---|
{rows}

ASR is the share of triggered images of other classes that are classified as the target; recovery
is the share of the same images that are classified as their true class.

To load it from this folder:

    import open_clip
    model, preprocess = open_clip.create_model_from_pretrained("local-dir:{card["name"]}")
    tokenizer = open_clip.get_tokenizer("local-dir:{card["name"]}")

Call `model.eval()` before you use it: open_clip returns it in training mode.
"""
