"""A hook of mkdocs.yml: adds repository files that a page links to (for example pictures of models) to the site."""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

LINK = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)")
FOLDER = "repository"  # folder of these files in the site


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each file outside docs/ that a page links to."""
    for page in list(files.documentation_pages()):
        for _, path in _outside(page.content_string, page.src_uri, config):
            name = f"{FOLDER}/{path}"
            if files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(_root(config) / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Rewrite the links to the copies in the site."""
    for link, path in _outside(markdown, page.file.src_uri, config):
        there = os.path.relpath(f"{FOLDER}/{path}", Path(page.file.src_uri).parent)
        markdown = markdown.replace(f"]({link}", f"]({there}")
    return markdown


def _root(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent.resolve()


def _outside(markdown: str, page: str, config: MkDocsConfig) -> list[tuple[str, Path]]:
    """Find a page's links to repository files outside docs/: each as written, and as a path from the root."""
    docs, found = Path(config.docs_dir).resolve(), []
    for link in dict.fromkeys(LINK.findall(markdown)):
        path = (docs / page).parent.joinpath(link).resolve()
        if path.is_file() and not path.is_relative_to(docs) and path.is_relative_to(_root(config)):
            found.append((link, path.relative_to(_root(config))))
    return found
