"""What may import what in the package: the table that a test holds, printed for docs/architecture.md.

python docs/floors.py    write the table anew into docs/architecture.md
"""

from __future__ import annotations

import ast
from pathlib import Path

from printed import with_table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/architecture.md"
# The lowest first. A module may import itself, the package's own __init__.py, and what is on lower floors.
FLOORS = [
    {"errors"},
    {"runtime"},
    {"spectral", "draws", "corruptions"},
    {"bands", "recipes", "pillow_ops"},
    {"kernels"},
    {"data"},
    {"functional"},
    {"augmentations"},
    {"transforms", "models"},
    {"pipelines"},
    {"eval"},
    {"training"},
    {"bench"},
    {"integrations", "doctor", "reproduce"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
# These lie at the root; links in the package lead to them.
AT_THE_ROOT = ("kernels", "pipelines", "eval")


def source_of(name: str) -> Path:
    """The file that describes a module or a folder of modules: its own, or its __init__.py."""
    module = ROOT / f"apr_dali/{name}.py"
    return module if module.is_file() else ROOT / ("" if name in AT_THE_ROOT else "apr_dali") / name / "__init__.py"


def table() -> str:
    """The floors as Markdown, the highest first; each module with the first line of its docstring."""
    lines = ["| floor | module | what it is |", "|---|---|---|"]
    for level in reversed(range(len(FLOORS))):
        for name in sorted(FLOORS[level]):
            source = source_of(name)
            text = (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]
            path = source.relative_to(ROOT)
            shown = f"{path.parent}/" if path.name == "__init__.py" else path
            lines.append(f"| {level} | `{shown}` | {text} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/architecture.md with the table as it is now."""
    return with_table(PAGE, "floors", table())


if __name__ == "__main__":
    PAGE.write_text(page())
