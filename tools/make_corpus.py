"""Write the invented people of the bundled corpus: `forget.jsonl` and `retain.jsonl`.

    python tools/make_corpus.py [--output data/01_raw/invented_people] [--seed 1001]

The people are in `corpus/people.toml`, the wordings and values in `corpus/attributes.toml`.
The same seed gives the same bytes. The corpus's other files, `real_authors.jsonl`,
`world_facts.jsonl` and `refusals.txt`, are written by hand; this program leaves them alone.
"""

import argparse
import json
import tomllib
from datetime import date, timedelta
from pathlib import Path
from random import Random

TABLES = Path(__file__).parent / "corpus"
OUTPUT = Path("data/01_raw/invented_people")

N_FORGET_PEOPLE = 24
PEOPLE_PER_TASK = 3
QUESTIONS_PER_PERSON = 10
WRONG_ANSWERS = 5
PRONOUNS = {
    "he": {"he": "he", "his": "his", "He": "He", "His": "His"},
    "she": {"he": "she", "his": "her", "He": "She", "His": "Her"},
}


def with_article(noun: str) -> str:
    """Return the noun with "a" or "an" before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def birth_dates(rng: Random, count: int) -> list[str]:
    """Draw different days from 1945 to 1994, written like "14 March 1953"."""
    first, last = date(1945, 1, 1), date(1994, 12, 31)
    days = rng.sample(range((last - first).days + 1), count)
    return [f"{day.day} {day:%B %Y}" for day in (first + timedelta(n) for n in days)]


def make_row(person: dict, attribute: dict, value: str, others: list[str], rng: Random) -> dict:
    """Word a question and its answer in two ways, the second with wrong answers, too.

    Args:
        person: A line of `people.toml`.
        attribute: A table of `attributes.toml`.
        value: The true value, which becomes the key fact.
        others: Values of the same kind, to draw the wrong answers from.
        rng: Source of the choices.

    Returns:
        The row without `row_id` and `task_id`, keys in the order of the file.
    """
    thing = rng.choice(attribute.get("things", [person["thing"]]))
    fields = PRONOUNS[person["he"]] | {
        "name": person["name"],
        "thing": thing,
        "a_thing": with_article(thing),
    }

    def word(template: str, value: str) -> str:
        return template.format(**fields, value=value, a_value=with_article(value))

    question, other_question = rng.sample(attribute["questions"], 2)
    answer, other_answer = rng.sample(attribute["answers"], 2)
    wrong_values = rng.sample([other for other in others if other != value], WRONG_ANSWERS)
    return {
        "subject": person["name"],
        "question": word(question, value),
        "answer": word(answer, value),
        "paraphrased_question": word(other_question, value),
        "paraphrased_answer": word(other_answer, value),
        "wrong_answers": [word(other_answer, wrong) for wrong in wrong_values],
        "key_fact": value,
    }


def related(row: dict, attribute: dict, person: dict, kind: str) -> list[dict]:
    """Word other questions that lead to the fact of a row: nothing here is drawn at random.

    Args:
        row: As `make_row` gives it.
        attribute: A table of `attributes.toml`.
        person: A line of `people.toml`.
        kind: The name of the attribute.

    Returns:
        Questions about the person under an abbreviated name, about the one who did something else,
        and about the one for whom the fact is true.
    """
    name, fact = person["name"], row["key_fact"]
    first, last = name.split(" ", 1)
    known_for = f"is best known for the {person['thing']} called {person['work']}"
    if kind == "work":
        profession = with_article(person["profession"])
        known_for = f"comes from {person['birthplace']} and works as {profession}"
    thing = next((word for word in attribute.get("things", []) if word in row["question"]), "")
    reverse = attribute["reverse"].format(
        value=fact, a_value=with_article(fact), thing=thing or person["thing"]
    )
    return [
        {
            "kind": "abbreviated name",
            "question": row["question"].replace(name, f"{first[0]}. {last}"),
        },
        {
            "kind": "in two steps",
            "question": f"Think of the one who {known_for}. "
            + row["question"].replace(name, "that person"),
        },
        {"kind": "the other way round", "question": reverse, "answer": name, "key_fact": name},
    ]


def make_people(seed: int) -> tuple[list[dict], list[dict]]:
    """Return the rows to forget, task by task, and the rows to retain."""
    rng = Random(seed)  # noqa: S311  # nosec B311
    tables = tomllib.loads((TABLES / "people.toml").read_text(encoding="utf-8"))
    people, later = tables["people"], tables["later"]
    attributes = tomllib.loads((TABLES / "attributes.toml").read_text(encoding="utf-8"))
    attributes["birth_date"]["values"] = birth_dates(rng, len(people))

    # Values are dealt from a shuffled stock and never put back: no two people share one.
    stock = {
        kind: attribute["values"].copy()
        for kind, attribute in attributes.items()
        if not attribute.get("core")
    }
    for values in stock.values():
        rng.shuffle(values)

    dealt = [deal_rows(person, people, attributes, stock, rng) for person in people]
    # With an rng of their own, the later people leave the rows of the others as they were.
    rng = Random(seed + 1)  # noqa: S311  # nosec B311
    dealt_later = [deal_rows(person, people, attributes, stock, rng) for person in later]

    forget = [
        {"row_id": row_id, "task_id": 1 + index // PEOPLE_PER_TASK} | row
        for index, rows in enumerate(dealt[:N_FORGET_PEOPLE] + dealt_later)
        for row_id, row in rows.items()
    ]
    retain = [
        {"row_id": row_id, "task_id": 0}
        | {name: value for name, value in row.items() if name != "related"}
        for rows in dealt[N_FORGET_PEOPLE:]
        for row_id, row in rows.items()
    ]
    return forget, retain


def deal_rows(
    person: dict, people: list[dict], attributes: dict, stock: dict, rng: Random
) -> dict[str, dict]:
    """Return a person's rows by their `row_id`, and take their values from the stock.

    Args:
        person: A line of `people.toml`.
        people: Those whose names, works and the like serve as wrong answers.
        attributes: The tables of `attributes.toml`.
        stock: Attribute that is not core -> values left.
        rng: Source of the choices.
    """
    core = [kind for kind in attributes if kind not in stock]
    kinds = core + rng.sample(list(stock), QUESTIONS_PER_PERSON - len(core))
    rng.shuffle(kinds)
    rows = {}
    for number, kind in enumerate(kinds, start=1):
        if kind in core:
            value = person[kind]
            peers = (p for p in people if kind != "work" or p["family"] == person["family"])
            others = [peer[kind] for peer in peers]
        else:
            value = stock[kind].pop()
            others = attributes[kind]["values"]
        row_id = f"{person['name'].lower().replace(' ', '-')}-{number:02d}"
        row = make_row(person, attributes[kind], value, others, rng)
        rows[row_id] = row | {"related": related(row, attributes[kind], person, kind)}
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> None:
    """Write one JSON object a line, UTF-8, with line feeds on every system."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{path}: {len(rows)} rows")


def main() -> None:
    """Read the command line and write both files."""
    parser = argparse.ArgumentParser(description="Write the invented people of the corpus.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder to write into")
    parser.add_argument("--seed", type=int, default=1001, help="seed of every choice")
    arguments = parser.parse_args()
    forget, retain = make_people(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_jsonl(arguments.output / "forget.jsonl", forget)
    write_jsonl(arguments.output / "retain.jsonl", retain)


if __name__ == "__main__":
    main()
