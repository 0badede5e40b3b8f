"""The page of a certificate: what its file says, for a reader, on screen and on paper."""

from __future__ import annotations

from closer_look.erasure.signing import Envelope
from closer_look.erasure.statement import Number, read_statement
from closer_look.reporting.pages import number_text, page_template

DECISIONS = {
    "served": (
        "Served",
        "The model was trained to forget the rows of the request. It passed what was asked of it, "
        "and was made current.",
    ),
    "not_known": (
        "Not known to the model",
        "The model did not give the answers of the request in the first place, as the numbers say. "
        "Nothing was trained, and it serves as it was.",
    ),
    "failed": (
        "Not served",
        "No attempt passed what was asked of it. The model serves as it was, and may know what it "
        "was asked to forget.",
    ),
}
"""Decision -> what a reader calls it, and what it means."""

NOTHING_MEASURED = "Nothing was measured."


def render_certificate(envelope: Envelope, file: str) -> str:
    """Render the page of a certificate, as HTML that loads nothing and runs nothing.

    Args:
        envelope: the certificate, signed or not.
        file: name of its file, for the reader who wants to verify it.

    Raises:
        InputError: the envelope holds no certificate.
    """
    certificate = read_statement(envelope.payload)
    title, meaning = DECISIONS[certificate.done.decision]
    return page_template("certificate.html.jinja", number=_number).render(
        certificate=certificate,
        decision=title,
        meaning=meaning,
        key_ids=envelope.key_ids,
        file=file,
        nothing_measured=NOTHING_MEASURED,
    )


def _number(number: Number | None) -> str:
    return number_text(number and number.model_dump())
