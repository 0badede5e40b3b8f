"""How the notebooks show a table: sentences whole and to the left, numbers with three decimals."""

import pandas as pd
from pandas.io.formats.style import Styler

LONGEST = 120  # characters of a text; what a broken model says may fill a page
CELLS = {"text-align": "left", "vertical-align": "top"}
TEXTS = {"overflow-wrap": "anywhere", "min-width": "7em"}
HEADS = [{"selector": "th", "props": [("text-align", "left")]}]


def show(table: pd.DataFrame) -> Styler:
    """Show a table without its index; texts and heads are escaped, and the longest texts cut."""
    texts = table.select_dtypes(["string", "object"]).columns
    styled = table.reset_index(drop=True).style.format(precision=3, na_rep="").hide(axis="index")
    styled = styled.format(_cut, subset=texts, na_rep="", escape="html")
    styled = styled.format_index(escape="html", axis="columns")
    styled = styled.set_properties(**CELLS).set_properties(texts, **TEXTS)
    return styled.set_table_styles(HEADS)


def _cut(text: object) -> str:
    text = str(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
