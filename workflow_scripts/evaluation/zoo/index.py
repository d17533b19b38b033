"""List the models of a zoo.

Inputs  FOLDER/<model>/card.json and check.json
Outputs FOLDER/README.md    a table of the models
        FOLDER/SHA256SUMS   for sha256sum --check
"""

import argparse
from pathlib import Path

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.common.markdown import markdown_text
from workflow_scripts.evaluation.zoo.write import CARD, NUMBERS

_HEAD = """# Models

Models that are **backdoored on purpose**, models cleaned of a backdoor, and clean controls, for
research on backdoors. Each folder contains a model card and can be loaded by open_clip:
`open_clip.create_model_from_pretrained("local-dir:<folder>")`. The numbers were measured after
training and verified on these files.

| model | kind | trigger | target | accuracy | ASR | recovery | licence |
|---|---|---|---|---|---|---|---|
"""


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder of the zoo")
    parser.add_argument("--models", nargs="+", required=True, help="names of the models")
    options = parser.parse_args(arguments)
    cards = {name: read_json(options.folder / name / CARD) for name in options.models}
    lines = []
    for name, card in cards.items():
        checked = read_json(options.folder / name / "check.json")["numbers"]
        shown = [f"{100 * checked[k][1]:.2f} %" if k in checked else "–" for k in NUMBERS]
        parts = parts_of(card["attack"])
        triggers = ", ".join(part["trigger"]["name"] for part in parts)
        targets = ", ".join(dict.fromkeys(part["target"] for part in parts))
        texts = map(markdown_text, (card["kind"], triggers, targets, *shown, card["licence"]))
        cells = [f"[{name}]({name}/README.md)", *texts]
        lines.append(f"| {' | '.join(cells)} |\n")
    with atomic(options.folder / "README.md") as temporary:
        temporary.write_text(_HEAD + "".join(lines), encoding="utf-8")
    with atomic(options.folder / "SHA256SUMS") as temporary:
        sums = [f"{card['sha256']}  {name}/{card['file']}\n" for name, card in cards.items()]
        temporary.write_text("".join(sums))


if __name__ == "__main__":
    run_step(main)
