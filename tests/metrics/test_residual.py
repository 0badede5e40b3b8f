"""What attacks get back: shares worked out by hand, and intervals that cover as they say."""

import numpy as np
import pandas as pd
import pytest

from closer_look.metrics import PLAIN, attack_results, largest_share, residual_knowledge
from closer_look.metrics.residual import NOT_KNOWN


def lines(method, attack, values, setting="", share=None):
    table = pd.DataFrame({"recovered": values, "share": values if share is None else share})
    words = {"method": method, "attack": attack, "setting": setting}
    texts = {"rouge": 0.5, "cosine_similarity": 0.25, "entailment": np.nan}
    return table.assign(row_id=[f"row {n}" for n in range(len(values))], **words, **texts)


@pytest.fixture
def recovered():
    return pd.concat(
        [
            lines("before", PLAIN, [1, 1, 1, 0]),
            lines("before", "sampling", [1, 1, 1, 1], share=[1, 1, 0.5, 0.5]),
            lines("before", "lens", [1, 0, 0, 0], setting="layer 1"),
            lines("before", "lens", [1, 1, 0, 0], setting="layer 2"),
            lines("me_gd", PLAIN, [0, 0, 0, 0]),
            lines("me_gd", "sampling", [1, 0, 0, 0], share=[0.25, 0, 0, 0]),
            lines("me_gd", "lens", [1, 0, 0, 0], setting="layer 1"),
            lines("me_gd", "lens", [0, 0, 0, 0], setting="layer 2"),
            lines("idk_ap", PLAIN, [0, 0, 0, 0]),
        ],
        ignore_index=True,
    )


def test_what_is_got_back_is_a_share_of_what_was_known(recovered):
    table = attack_results(recovered, "before").set_index(["method", "attack", "setting"])
    sampling = table.loc["me_gd", "sampling", ""]
    assert (sampling["recovered"], sampling["once"]) == (0.25, 0.0625)
    assert sampling["value"] == pytest.approx(1 / 3)
    assert (sampling["rouge"], sampling["cosine_similarity"]) == (0.5, 0.25)
    assert table.loc["before", PLAIN, ""]["value"] == 1
    assert table.loc["before", "sampling", ""]["value"] == 1  # more than when asked plainly
    assert table.loc["me_gd", PLAIN, ""]["value"] == 0


def test_an_internal_attack_is_compared_with_itself(recovered):
    table = attack_results(recovered, "before", internal=["lens"])
    table = table.set_index(["method", "attack", "setting"])
    assert table.loc["me_gd", "lens", "layer 1"]["value"] == 0.5  # of layer 2 before
    assert table.loc["before", "lens", "layer 2"]["value"] == 1


def test_the_setting_that_gets_most_back_is_marked(recovered):
    table = attack_results(recovered, "before")
    lens = table[(table["attack"] == "lens") & (table["method"] == "me_gd")]
    assert lens["is_largest"].tolist() == [True, False]


def test_settings_of_other_rows_are_compared_by_their_shares(recovered):
    """Of all rows, half is got back; of two rows, one of which was known, all that was known."""
    some = lines("me_gd", "relearning", [1, 0], "on two rows").assign(row_id=["row 2", "row 3"])
    most = lines("me_gd", "relearning", [1, 1, 0, 0], "on none")
    table = attack_results(pd.concat([recovered, most, some], ignore_index=True), "before")
    relearned = table[table["attack"] == "relearning"].set_index("setting")
    assert relearned["recovered"].tolist() == [0.5, 0.5]
    assert relearned["value"].to_dict() == {"on two rows": 1, "on none": pytest.approx(2 / 3)}
    assert relearned["is_largest"].to_dict() == {"on two rows": True, "on none": False}


def test_residual_knowledge_is_the_most_that_any_attack_gets_back(recovered):
    table = residual_knowledge(recovered, "before", internal=["lens"]).set_index("method")
    found = table.loc["me_gd"]
    assert (found["attack"], found["setting"], found["value"]) == ("lens", "layer 1", 0.5)
    assert 0 <= found["ci_low"] < 0.5 < found["ci_high"] <= 1
    nothing = table.loc["idk_ap"]
    assert (nothing["attack"], nothing["value"], nothing["ci_low"]) == (PLAIN, 0, 0)
    assert nothing["ci_high"] > 0.5  # four rows say little


def test_without_any_knowledge_there_is_no_share():
    nothing = pd.concat([lines("before", PLAIN, [0, 0]), lines("me_gd", PLAIN, [0, 1])])
    nothing = nothing.reset_index(drop=True)
    found = residual_knowledge(nothing, "before").set_index("method").loc["me_gd"]
    assert np.isnan(found["value"])
    assert found["reason"] == NOT_KNOWN
    assert attack_results(nothing, "before")["reason"].tolist() == [NOT_KNOWN] * 2


def test_rows_that_an_attack_leaves_out_do_not_count(recovered):
    half = lines("me_gd", "relearning", [1, 1]).assign(row_id=["row 2", "row 3"])
    table = attack_results(pd.concat([recovered, half], ignore_index=True), "before")
    relearned = table[table["attack"] == "relearning"].iloc[0]
    assert (relearned["recovered"], relearned["value"], relearned["n_rows"]) == (1, 1, 2)
    of_known = lines("me_gd", "relearning", [1]).assign(row_id=["row 3"])
    table = attack_results(pd.concat([recovered, of_known], ignore_index=True), "before")
    assert table[table["attack"] == "relearning"].iloc[0]["reason"] == NOT_KNOWN


def test_the_same_seed_gives_the_same_interval(recovered):
    tables = [residual_knowledge(recovered, "before", n_resamples=50, seed=3) for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)


def covered(true_shares, known_share, seed):
    """Whether the interval of the largest share holds the largest of the true shares."""
    generator = np.random.default_rng(seed)
    own = generator.random(40)  # a row that is hard to get back is so for every attack
    settings = []
    for share in true_shares:
        other = generator.random(40)
        of_row = np.where(generator.random(40) < 0.5, own, other)
        settings.append((of_row < share * known_share, own < known_share))
    found = largest_share(settings, n_resamples=200, seed=seed)
    return found.ci_low <= max(true_shares) <= found.ci_high


@pytest.mark.parametrize(
    ("true_shares", "known_share"),
    [
        ([0.02], 1.0),
        ([0.5], 0.9),
        ([0.9], 0.7),
        ([0.98], 0.95),
        ([0.1] * 8, 0.95),  # the largest of many like numbers is too large
        ([0.6] * 8, 0.9),
    ],
)
def test_intervals_cover_as_often_as_they_say(true_shares, known_share):
    hits = [covered(true_shares, known_share, seed) for seed in range(120)]
    assert np.mean(hits) >= 0.92


def test_intervals_are_no_wider_than_they_need_be():
    known = np.ones(40)
    got = np.arange(40) < 20
    found = largest_share([(got, known)])
    assert found.value == 0.5
    assert 0.3 < found.ci_low < 0.4
    assert 0.6 < found.ci_high < 0.7
