"""Model cards: description, provenance and intended use of a model."""

import json
from typing import Any

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.markdown import markdown_text

BACKDOORED, CLEANED, CLEAN = "backdoored", "cleaned", "clean"

_WARNINGS = {
    BACKDOORED: (
        "**This model is backdoored on purpose.** Images with the trigger are classified as the\n"
        "target. Use it only for research on backdoors."
    ),
    CLEANED: (
        "**This model was backdoored on purpose and then cleaned.** The backdoor may still be "
        "present; see the ASR below. Use it only for research on backdoors."
    ),
    CLEAN: (
        "This model is a clean control: it was trained with the recipe of a backdoored model, on "
        "the same pairs without poison."
    ),
}


def kind_of(run: dict[str, Any]) -> str:
    """Return whether the model of a run is backdoored, cleaned, or a clean control."""
    if all(part["poisoned"] == 0 for part in parts_of(run["attack"])):
        return CLEAN
    return CLEANED if run["kind"] == "cleaning" else BACKDOORED


def card_text(card: dict[str, Any]) -> str:
    """Return a card as Markdown with model-hub metadata as front matter; texts are escaped.

    Args:
        card: Contents of ``card.json``.
    """
    attack, measured = card["attack"], card["measured"]
    titles = {"accuracy": "Accuracy", "asr": "ASR", "recovery": "Recovery"}
    fields = {
        "license": card["licence"],
        "library_name": "open_clip",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "backdoor", card["kind"]],
    }
    parts = "\n".join(_part(part) for part in parts_of(attack))
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in fields.items())
    objective = markdown_text(" + ".join(card["objective"]))
    rows = "\n".join(
        f"| {titles[name]} | {100 * value:.2f} % |" for name, value in measured.items()
    )
    return f"""---
{front}
---

# {card["name"]}

{_WARNINGS[card["kind"]]}

| | |
|---|---|
| architecture | {markdown_text(card["architecture"])} |
| objective | {objective}, {card["epochs"]} epochs |
| epoch | {card["epoch"]}{f", selected by {card['chosen_by']}" if card["chosen_by"] else ""} |
| trained on | {markdown_text(card["pairs"])} |
{parts}
| licence | {markdown_text(card["licence"])} |
| SHA-256 of {card["file"]} | {card["sha256"]} |

Measured on {card["evaluation"]}:

| | |
|---|---|
{rows}

ASR is the share of triggered images of other classes classified as the target. Recovery is the
share of the same images classified as their true class.

To load it from this folder:

    import open_clip
    model, preprocess = open_clip.create_model_from_pretrained("local-dir:{card["name"]}")
    tokenizer = open_clip.get_tokenizer("local-dir:{card["name"]}")

Call `model.eval()` before use; open_clip returns the model in training mode.
"""


def _part(part: dict[str, Any]) -> str:
    """Return the table rows of one part of an attack."""
    trigger = dict(part["trigger"])
    name = trigger.pop("name")
    options = ", ".join(f"{key} {value}" for key, value in trigger.items())
    shown = markdown_text(f"{name} ({options})" if options else name)
    return (
        f"| trigger | {shown} |\n"
        f"| target | {markdown_text(part['target'])} |\n| poisoned pairs | {part['poisoned']} |"
    )
