"""Published values, and small tables with numbers known by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest

GOLDENS = Path(__file__).parents[3] / "shared" / "goldens"


def published(name):
    path = GOLDENS / name
    if not path.exists():
        pytest.skip(f"the published values are not beside the repository ({path})")
    return json.loads(path.read_text())


@pytest.fixture(scope="session")
def tofu_logs():
    return published("tofu_phi_eval_logs.json")


@pytest.fixture(scope="session")
def memorisation():
    return published("memorisation.json")


@pytest.fixture
def make_row_metrics():
    """Build a table like that of ``row_metrics``: every metric has the same value everywhere."""

    def make(*groups, value=0.5, truth_ratio=2.0):
        """Each group is (split, task_id, number of rows)."""
        rows = [
            {
                "split": split,
                "task_id": task_id,
                "row_id": f"{split}_{task_id}_{number}",
                "rouge": value,
                "probability": value,
                "truth_ratio": truth_ratio,
                "token_entropy": value,
                "cosine_similarity": value,
                "entailment": value,
                "exact_memorisation": value,
                "extraction_strength": value,
            }
            for split, task_id, n_rows in groups
            for number in range(n_rows)
        ]
        return pd.DataFrame(rows)

    return make
