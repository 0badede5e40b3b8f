"""Lines of files: faults are named by file and line."""

import pytest

from closer_look.datasets.lines import read_csv, read_json, read_lines
from closer_look.errors import InputError


@pytest.fixture
def write(tmp_path):
    """Write a file and give its path."""

    def write(content):
        path = tmp_path / "rows.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def refused(path, read=read_json, **options):
    """The message, without the path, with which the file is refused."""
    with pytest.raises(InputError) as caught:
        read(path, **options)
    return str(caught.value).removeprefix(path)


def test_lines_are_stripped_and_blank_ones_left_out(write):
    lines = read_lines(write("one \n\n  two\r\n \nthree"))
    assert lines == {1: "one", 3: "two", 5: "three"}


def test_byte_order_mark_is_no_part_of_the_first_line(write):
    assert read_json(write('\ufeff{"a": "b"}\n')) == [{"a": "b"}]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_told_by_its_byte_order_mark(write, encoding):
    mark = "" if encoding == "utf-16" else "\ufeff"
    assert read_lines(write(f"{mark}Zoë\r\n中\r\n".encode(encoding))) == {1: "Zoë", 2: "中"}


@pytest.mark.parametrize("break_", ["\r\n", "\r"])
def test_lines_end_as_on_any_system(write, break_):
    content = break_.join(["question,answer", '"Who?","two', 'lines"', "When?,now", ""])
    assert read_csv(write(content)) == [
        {"question": "Who?", "answer": "two\nlines"},
        {"question": "When?", "answer": "now"},
    ]
    assert read_json(write(break_.join(['{"a": "b"}', '{"a": "c"}']))) == [{"a": "b"}, {"a": "c"}]


def test_numbers_keep_their_spelling(write):
    content = '{"a": 1987, "b": 1.10, "c": [7, 1e3], "d": ' + "9" * 5000 + "}"
    assert read_json(write(content)) == [
        {"a": "1987", "b": "1.10", "c": ["7", "1e3"], "d": "9" * 5000}
    ]


@pytest.mark.parametrize("content", ['[{"a": "b"}, {"a": "c"}]', '\n[\n {"a": "b"},\n {"a": "c"}]'])
def test_one_array_is_read_as_its_rows(write, content):
    assert read_json(write(content)) == [{"a": "b"}, {"a": "c"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": "b"}, "c"]', ": row 2 is not a JSON object"),
        ('[{"a": "b"}\n{"a": "c"}]', ": line 2 is not JSON (Expecting ',' delimiter)"),
        ('[{"a": NaN}]', " cannot be read (NaN is not a number in JSON)"),
    ],
)
def test_fault_in_an_array_is_named(write, content, message):
    assert refused(write(content)).startswith(message)


def test_line_separators_inside_a_text_end_no_line(write):
    assert read_json(write('{"a": "b\u2028c"}\n')) == [{"a": "b\u2028c"}]


def test_file_at_a_url_is_read():
    import fsspec

    with fsspec.open("memory://closer_look/rows.jsonl", "wt") as file:
        file.write('{"a": "b"}\n')
    assert read_json("memory://closer_look/rows.jsonl") == [{"a": "b"}]


def test_missing_file_says_so(tmp_path):
    assert refused(str(tmp_path / "rows.jsonl")) == " is missing"


def test_missing_file_says_where_to_get_it(tmp_path):
    message = refused(str(tmp_path / "rows.jsonl"), source="get it at example.org")
    assert message == " is missing; get it at example.org"


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file_is_refused(write, content):
    assert refused(write(content)) == ": the table is empty"


def test_file_that_is_not_utf8_is_refused(write):
    assert refused(write("Brontë".encode("latin-1"))) == " is not text in UTF-8; save it as UTF-8"


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    assert refused(str(tmp_path)) == " cannot be read (Is a directory)"


def test_line_that_is_not_json_is_named_by_its_number_in_the_file(write):
    message = refused(write('{"a": 1}\n\n\nnonsense\n'))
    assert message.startswith(": line 4 is not JSON")


def test_line_that_is_no_object_is_named(write):
    assert refused(write('{"a": 1}\n[1, 2]\n')) == ": line 2 is not a JSON object"


def test_pretty_printed_json_is_refused(write):
    message = refused(write('{\n  "a": 1\n}\n'))
    assert message.startswith(": line 1 is not JSON")
    assert message.endswith("each line must be one JSON object, or the file one array of them")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ('{"a": 1, "a": 2}', "'a' occurs more than once"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "maximum recursion depth"),
        ('{"a": NaN}', "NaN is not a number in JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number in JSON"),
    ],
)
def test_row_that_says_nothing_certain_is_refused(write, row, what):
    message = refused(write('{"a": 1}\n' + row))
    assert message.startswith(f": line 2 cannot be read ({what}")
    assert "\n" not in message


CELLS = [{"question": "Who, then; or when?", "answer": "A, b"}]


class TestCsv:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("first", ["", "sep={}\n", '"SEP={}"\r\n'])
    def test_header_tells_what_separates_cells(self, write, delimiter, first):
        table = [("question", " answer "), ('"Who, then; or when?"', '"A, b"')]
        lines = "\n".join(delimiter.join(row) for row in table)
        assert read_csv(write(first.format(delimiter) + lines)) == CELLS

    def test_first_line_may_name_any_delimiter(self, write):
        assert read_csv(write("sep=|\na|b\n1|2\n")) == [{"a": "1", "b": "2"}]

    def test_answers_do_not_decide_what_separates_cells(self, write):
        path = write("question,answer\nQ,a; b; c; d\n")
        assert read_csv(path) == [{"question": "Q", "answer": "a; b; c; d"}]

    def test_line_is_counted_from_the_top_of_the_file(self, write):
        message = refused(write("sep=;\nquestion;answer\nQ;A\nWho; then?;A\n"), read_csv)
        assert message == (": line 4 has more cells than the header; put texts with ';' in quotes")

    def test_cells_come_as_texts(self, write):
        path = write('question,answer\n"Who, then?","NA"\nWhen?,"two\nlines"\n')
        assert read_csv(path) == [
            {"question": "Who, then?", "answer": "NA"},
            {"question": "When?", "answer": "two\nlines"},
        ]

    def test_empty_cell_is_no_value(self, write):
        assert read_csv(write("a,b\n,1\n2,\n3\n")) == [{"b": "1"}, {"a": "2"}, {"a": "3"}]

    def test_comma_outside_quotes_is_found(self, write):
        message = refused(write("question,answer\nQ,A\nWho, then?,A\n"), read_csv)
        assert message.startswith(": line 3 has more cells than the header")

    @pytest.mark.parametrize("content", ["", "question,answer\n"])
    def test_empty_table_is_refused(self, write, content):
        assert refused(write(content), read_csv) == ": the table is empty"

    def test_missing_file_says_so(self, tmp_path):
        assert refused(str(tmp_path / "rows.csv"), read_csv) == " is missing"

    def test_column_that_comes_twice_is_refused(self, write):
        message = refused(write("question,answer,answer\nQ,A,B\n"), read_csv)
        assert message == ": line 1 cannot be read ('answer' occurs more than once)"

    def test_cells_beside_the_table_need_no_name(self, write):
        assert read_csv(write("a,,\n1,,\n")) == [{"a": "1"}]

    def test_table_that_is_not_utf8_is_refused(self, write):
        assert (
            refused(write("a\nBrontë\n".encode("latin-1")), read_csv)
            == " is not text in UTF-8; save it as UTF-8"
        )

    def test_cell_that_is_too_long_is_named_by_its_line(self, write):
        message = refused(write(f"a\nb\n{'x' * 200_000}\n"), read_csv)
        assert message.startswith(": line 3 cannot be read (field larger than field limit")


def test_a_hundred_thousand_names_are_looked_through_once(write):
    names = [f"column {n}" for n in range(100_000)]
    row = ", ".join(f'"{name}": 1' for name in names)
    assert len(read_json(write(f"{{{row}}}"))[0]) == len(names)
    assert refused(write(f'{{{row}, "column 7": 1}}')) == (
        ": line 1 cannot be read ('column 7' occurs more than once)"
    )
    header = ",".join(names)
    assert refused(write(f"{header},column 7\n1"), read_csv).startswith(": line 1 cannot be read")
