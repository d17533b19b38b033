"""Adds generated pages to the documentation when the site is built.

README, CHANGELOG and CONTRIBUTING are kept at the top level of the repository, and the config
reference is generated from the schema.
"""

import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files in ``docs/``."""
    for source, page in TOP_LEVEL.items():
        text = _from_docs((ROOT / source).read_text("utf-8"))
        files.append(File.generated(config, page, content=text))
    describe = [sys.executable, "-m", "workflow_scripts.experiments.describe_config"]
    text = subprocess.run(describe, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files.append(File.generated(config, "config-reference.md", content=text))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Point links to files at the top level to their pages."""
    for source, page in TOP_LEVEL.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return markdown


def _from_docs(text: str) -> str:
    """Return a page of the top level with its links relative to ``docs/``."""
    text = re.sub(r"\]\(docs/", "](", text)
    for source, page in TOP_LEVEL.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text
