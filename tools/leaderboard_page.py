"""Write a page of the documentation from the newest results of a benchmark.

python tools/leaderboard_page.py TITLE COMMAND data/08_reporting/people/benchmark PAGE
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from closer_look.datasets.node_costs_dataset import NodeCostsDataset
from closer_look.reporting.costs import machines

TEXT = """# {title}

Every method at its best: tuned with the same number of trials, trained with several seeds, measured
on questions that tuning has not seen.

```sh
# takes {hours:.1f} hours
{command}
```

{text}
Made on {machines}, with torch {torch}, from commit `{commit}`: {n_tasks} tasks, seeds {seeds}.
The report of the run has the same table and every answer behind it.
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("title", help="of the page")
    parser.add_argument("command", help="that made the run")
    parser.add_argument("results", type=Path, help="folder of the benchmark's results")
    parser.add_argument("page", type=Path, help="to write")
    arguments = parser.parse_args()
    arguments.page.write_text(
        write_page(arguments.title, arguments.command, arguments.results), encoding="utf-8"
    )
    print(arguments.page)


def write_page(title: str, command: str, results: Path) -> str:
    """Write the page from the newest artefacts in a folder."""
    record = json.loads(newest(results / "run_record.json"))
    experiment = record["parameters"]["experiment"]
    costs = NodeCostsDataset(
        filepath=(results.parent / "node_costs.jsonl").as_posix(), scenario=results.name
    ).load()
    return TEXT.format(
        title=title,
        command=command,
        text=newest(results / "leaderboard.md"),
        hours=hours_of(costs),
        machines=" and ".join(machines(costs)),
        torch=record["libraries"]["torch"],
        commit=record["commit"],
        n_tasks=experiment["n_tasks"],
        seeds=", ".join(map(str, experiment["seeds"])),
    )


def hours_of(costs: pd.DataFrame) -> float:
    """Sum up the time in which some node was at work: several may be at once."""
    started = pd.to_datetime(costs["started"]).sort_values()
    ended = started + pd.to_timedelta(costs["seconds"], unit="s")
    counted = ended.cummax().shift(fill_value=started.iloc[0])  # up to here by the nodes before
    return (ended - counted.clip(lower=started)).clip(
        lower=pd.Timedelta(0)
    ).dt.total_seconds().sum() / 3600


def newest(artefact: Path) -> str:
    """Read the newest version of an artefact."""
    versions = sorted(artefact.glob(f"*/{artefact.name}"))
    if not versions:
        raise SystemExit(f"there is no {artefact}: run `kedro run --pipelines benchmark` first")
    return versions[-1].read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
