"""``python -m closer_look``: ``kedro run`` where the project is installed as a package."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*arguments: Any, **options: Any) -> Any:
    """Run, with the options of ``kedro run``; in a notebook, return what the run returns."""
    package = Path(__file__).parent.name
    configure_project(package)
    is_interactive = hasattr(sys, "ps1")
    return find_run_command(package)(*arguments, standalone_mode=not is_interactive, **options)


if __name__ == "__main__":
    main()
