"""What the site has that is not a file in ``docs``; MkDocs calls these functions.

CHANGELOG.md, the icon of the page          ──▶ files of the site
docs/decisions/                             ──▶ their list, in the menu and on its page
a picture `x-light.png` beside `x-dark.png` ──▶ the one that goes with the reader's theme
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
DECISIONS = "decisions/"
LIGHT_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]*/)?([\w-]+)-light\.png\)")


@event_priority(100)  # before mkdocstrings notes where modules may be
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the menu, and let the docstrings be found in a folder that is called `regatta`."""
    for section in config.nav or []:
        for entries in section.values():
            for entry in entries:
                if isinstance(entry, dict) and entry.get("Decisions") == DECISIONS:
                    entry["Decisions"] = [f"{DECISIONS}README.md", *decisions()]
    found = tempfile.TemporaryDirectory(prefix="regatta-docs-")
    link_package(Path(found.name) / "regatta")
    sys.path.insert(0, found.name)
    config["package"] = found  # lives as long as the build
    return config


def link_package(folder: Path) -> None:
    """The root is the package; its tests and whatever else lies beside it would take a minute."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            (folder / path.name).symlink_to(path)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies elsewhere in the repository."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
    icon = ROOT / "dashboard" / "static" / "icon.svg"
    files.append(File.generated(config, "changelog.md", content=changes))
    files.append(File.generated(config, "icon.svg", abs_src_path=str(icon)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    if page.file.src_uri == f"{DECISIONS}README.md":
        lines = [f"- [{title(FOLDER / each)}]({Path(each).name})" for each in decisions()]
        markdown += "\n" + "\n".join(lines) + "\n"
    return LIGHT_PICTURE.sub(both_themes, markdown)


def on_page_content(html: str, **_: Any) -> str:
    return html.replace("array - like", "array-like")  # mkdocstrings takes it for a difference


def decisions() -> list[str]:
    """The decisions in their order, as paths within ``docs``."""
    return [path.relative_to(FOLDER).as_posix() for path in sorted(FOLDER.glob("decisions/0*.md"))]


def title(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def both_themes(picture: re.Match[str]) -> str:
    """Material hides a picture whose address ends with the name of the other theme."""
    words, folder, name = picture[1], picture[2] or "", picture[3]
    shown = {"light": f"![{words}]({folder}{name}-light.png#only-light)"}
    if (FOLDER / "images" / f"{name}-dark.png").exists():
        shown["dark"] = f"![{words}]({folder}{name}-dark.png#only-dark)"
    return "".join(shown.values()) if len(shown) == 2 else picture[0]
