"""What the report says of attacks."""

import pandas as pd

from closer_look.reporting.attacks import _relearning


def curve(method, *values):
    return pd.DataFrame(
        {
            "method": method,
            "attack": "relearning",
            "setting": ["5 steps on 8 of the rows", "10 steps on 8 of the rows"],
            "recovered": values,
        }
    )


def test_relearning_is_compared_with_who_never_knew():
    made = pd.concat([curve("retain_only", 0.0, 0.2), curve("me_gd", 0.4, 0.6)])
    said = _relearning(made, {"me_gd": "ME+GD"})
    assert said == ["ME+GD: +40 points on 8 of the rows"]


def test_without_who_never_knew_nothing_is_said():
    assert _relearning(curve("me_gd", 0.4, 0.6), {"me_gd": "ME+GD"}) == []
