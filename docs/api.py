"""Write the API reference: python docs/api.py FOLDER MODULE ..."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pdoc


def write(folder: Path, names: list[str]) -> None:
    """The pages of these modules by pdoc, which reads what lies in a module: names of a first use, too."""
    for module in map(importlib.import_module, names):
        for name in getattr(module, "__all__", ()):
            vars(module).setdefault(name, getattr(module, name))
    pdoc.render.configure(docformat="google")
    pdoc.pdoc(*names, output_directory=folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2:])
