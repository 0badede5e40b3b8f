"""Reference scores on disk: table and tensors come back, half a folder does not count."""

import pandas as pd
import pytest
import safetensors.torch
import torch
from kedro.io import Version

from closer_look.datasets.reference_scores_dataset import ReferenceScoresDataset
from closer_look.training.reference_scores import ReferenceScores

NLL = pd.DataFrame({"row_id": ["a", "b"], "text": ["Yes.", "No."], "nll": [1.5, 2.5]})
STATES = {"a": torch.arange(6.0).reshape(3, 2), "b": torch.ones(1, 2)}
HEAD = {"lm_head.weight": torch.arange(10.0).reshape(5, 2), "lm_head.bias": torch.ones(5)}
NOTHING = NLL.head(0)


@pytest.fixture
def at_version(tmp_path):
    """The entry as a run of that time sees it."""

    def at_version(save_version=None):
        path = str(tmp_path / "reference_scores")
        return ReferenceScoresDataset(filepath=path, version=Version(None, save_version))

    return at_version


def test_table_comes_back(at_version):
    at_version("1").save(ReferenceScores(NLL, {}, {}))
    pd.testing.assert_frame_equal(at_version().load().nll, NLL)


def test_tensors_come_back(at_version):
    at_version("1").save(ReferenceScores(NOTHING, STATES, HEAD))
    loaded = at_version().load()
    assert loaded.hidden_states.keys() == STATES.keys()
    assert all(torch.equal(loaded.hidden_states[row], STATES[row]) for row in STATES)
    assert loaded.output_head.keys() == HEAD.keys()
    assert all(torch.equal(loaded.output_head[name], HEAD[name]) for name in HEAD)


def test_states_of_a_layer_are_not_taken_for_the_last_ones(at_version):
    of_a_layer = {"a": torch.full((3, 2), 7.0), "layer b": torch.zeros(1, 2)}
    at_version("1").save(ReferenceScores(NOTHING, STATES, HEAD, of_a_layer))
    loaded = at_version().load()
    assert loaded.hidden_states.keys() == STATES.keys()
    assert loaded.activations.keys() == of_a_layer.keys()
    assert all(torch.equal(loaded.activations[row], one) for row, one in of_a_layer.items())
    assert torch.equal(loaded.hidden_states["a"], STATES["a"])


@pytest.mark.parametrize(
    "row_id", ["lm_head.weight", "output head lm_head.weight", "__metadata__", "../a'\"b"]
)
def test_row_may_have_any_name(at_version, row_id):
    at_version("1").save(ReferenceScores(NOTHING, {row_id: STATES["a"]}, HEAD))
    loaded = at_version().load()
    assert torch.equal(loaded.hidden_states[row_id], STATES["a"])
    assert loaded.output_head.keys() == HEAD.keys()
    assert all(torch.equal(loaded.output_head[name], HEAD[name]) for name in HEAD)


def test_losses_that_need_nothing_get_nothing(at_version):
    at_version("1").save(ReferenceScores(NOTHING, {}, {}))
    loaded = at_version().load()
    assert (len(loaded.nll), loaded.hidden_states, loaded.output_head) == (0, {}, {})


def test_entry_exists_once_it_is_saved(at_version):
    assert not at_version().exists()
    at_version("1").save(ReferenceScores(NLL, {}, {}))
    assert at_version().exists()


def test_latest_version_is_loaded(at_version):
    at_version("1").save(ReferenceScores(NOTHING, {}, {}))
    at_version("2").save(ReferenceScores(NLL, {}, {}))
    assert len(at_version().load().nll) == 2


def test_crash_while_saving_leaves_the_version_before(at_version, monkeypatch, tmp_path):
    at_version("1").save(ReferenceScores(NLL, {}, {}))

    def crash(tensors, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        at_version("2").save(ReferenceScores(NOTHING, {}, {}))
    assert len(at_version().load().nll) == 2
    assert list((tmp_path / "reference_scores" / "2").iterdir()) == []


def test_tensors_without_a_table_are_no_scores_and_do_not_stay(at_version, tmp_path):
    dataset = at_version("1")
    partial = tmp_path / "reference_scores" / "1" / "reference_scores.partial"
    partial.mkdir(parents=True)
    (partial / "of_a_killed_process.safetensors").touch()
    assert not dataset.exists()
    dataset.save(ReferenceScores(NLL, {}, {}))
    assert not partial.exists()
    assert sorted(path.name for path in partial.with_suffix("").iterdir()) == [
        "hidden_states.safetensors",
        "nll.parquet",
    ]


def test_crash_inside_the_table_leaves_the_version_before(at_version, monkeypatch):
    at_version("1").save(ReferenceScores(NLL, {}, {}))

    def half(table, file):
        file.write(b"PAR1")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(pd.DataFrame, "to_parquet", half)
        at_version("2").save(ReferenceScores(NOTHING, {}, {}))
    assert len(at_version().load().nll) == 2


def test_preview_shows_the_first_scores(at_version):
    at_version("1").save(ReferenceScores(NLL, {}, {}))
    assert at_version().preview(nrows=1)["data"] == [["a", "Yes.", 1.5]]
