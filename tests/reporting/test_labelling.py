"""Names beside marks: none covers a mark, another name or the edge."""

import itertools

from closer_look.reporting.labelling import LETTER, LINE, MARK, Box, place_names

WIDTH, HEIGHT = 400, 300


def boxes(marks, names):
    places = place_names(marks, names, WIDTH, HEIGHT)
    return [
        Box.around(x + place[0], y + place[1], LETTER * len(name), LINE)
        for (x, y), name, place in zip(marks, names, places, strict=True)
        if place
    ]


def test_a_lone_name_stands_to_the_right():
    ((right, up),) = place_names([(100, 100)], ["NPO+GD"], WIDTH, HEIGHT)
    assert right > 0 == up


def test_at_the_right_edge_it_stands_to_the_left():
    ((right, _),) = place_names([(390, 100)], ["NPO+GD"], WIDTH, HEIGHT)
    assert right < 0


def test_names_of_a_crowd_cover_nothing():
    marks = [(180 + 9 * (n % 4), 140 + 9 * (n // 4)) for n in range(16)]
    placed = boxes(marks, [f"Method {n}" for n in range(16)])
    assert len(placed) > 10
    blocks = [*placed, *(Box.around(x, y, 2 * MARK, 2 * MARK) for x, y in marks)]
    for name in placed:
        assert name.within(WIDTH, HEIGHT)
        assert sum(name.meets(block) for block in blocks) == 1  # itself
    assert not any(one.meets(other) for one, other in itertools.combinations(placed, 2))


def test_a_name_without_room_is_left_out():
    assert place_names([(20, 20)], ["M" * 100], WIDTH, HEIGHT) == [None]
