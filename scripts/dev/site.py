"""Lay out the site as the repository is: a hook of mkdocs.yml.

MkDocs knows the pages of one folder. Here README, CONTRIBUTING and others outside docs/ are pages too, and all have
their paths in the repository, so that every relative link is the one that works in the checkout.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]


def outside(nav: object) -> list[str]:
    """Paths in the navigation that are not below docs/."""
    if isinstance(nav, str):
        return [] if nav.startswith("docs/") else [nav]
    parts = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else []
    return [path for part in parts for path in outside(part)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every file under its path in the repository."""
    placed = []
    for file in files:
        if file.abs_src_path and Path(file.abs_src_path).is_relative_to(config.docs_dir):
            at = f"docs/{file.src_uri}"
            placed.append(
                File.generated(config, at, abs_src_path=file.abs_src_path, inclusion=file.inclusion)
            )
        else:
            placed.append(file)  # of the theme
    placed += [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in outside(config.nav)]
    return Files(placed)
