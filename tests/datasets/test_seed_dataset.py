"""A seed is what its name in the catalog says."""

import pytest
from kedro.io import DatasetError

from closer_look.datasets.seed_dataset import SeedDataset


def test_the_catalog_has_every_seed(open_session, tmp_path):
    with open_session(tmp_path) as session:
        catalog = session.load_context().catalog
    assert catalog.load("seed_1002") == 1002
    assert catalog.load("seed_0") == 0


def test_a_seed_is_not_saved():
    with pytest.raises(DatasetError, match="a seed is only read"):
        SeedDataset(seed="1001").save(1001)
