"""Areas between relearning curves, worked out by hand."""

import pandas as pd
import pytest

from closer_look.metrics.relearning import relearning_areas


def results(**curves):
    """Each curve is {steps: recovered} of a method, on the same material."""
    return pd.DataFrame(
        [
            {"method": method, "setting": f"{steps} steps on bare rows", "recovered": value}
            for method, curve in curves.items()
            for steps, value in curve.items()
        ]
    )


def test_area_is_the_mean_distance_of_the_curves():
    never_saw = {50: 0.2, 10: 0.1, 20: 0.1}
    hides = {10: 0.3, 20: 0.5, 50: 0.4}  # distances of 0.2, 0.4 and 0.2
    found = relearning_areas(results(never_saw=never_saw, hides=hides), "never_saw")
    area = (10 * (0.2 + 0.4) / 2 + 30 * (0.4 + 0.2) / 2) / 40
    assert found.to_dict("list") == {
        "method": ["hides"],
        "material": ["bare rows"],
        "area": [pytest.approx(area)],
    }


def test_area_of_a_single_number_of_steps_is_the_distance():
    found = relearning_areas(results(never_saw={5: 0.25}, gone={5: 0.0}), "never_saw")
    assert found["area"].tolist() == [-0.25]


def test_every_material_has_a_curve_of_its_own():
    both = [
        results(never_saw={5: 0.0}, hides={5: value}).replace(
            {"setting": {"5 steps on bare rows": f"5 steps on {material}"}}
        )
        for material, value in (("8 of the rows", 1.0), ("unrelated rows", 0.5))
    ]
    found = relearning_areas(pd.concat(both), "never_saw")
    assert dict(zip(found["material"], found["area"], strict=True)) == {
        "8 of the rows": 1.0,
        "unrelated rows": 0.5,
    }
