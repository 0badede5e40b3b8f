"""The model card of the current model: which requests it serves, and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from closer_look.reporting.pages import number_text, page_template

if TYPE_CHECKING:
    from closer_look.erasure.chain import Chain

TITLE = "A model after requests to forget"


def erasure_card(chain: Chain, sha256: str, *, is_separate: bool) -> str:
    """Write the card of the current model.

    Args:
        chain: the state of the ledger.
        sha256: of the model.
        is_separate: whether the folder holds adapters without their base model.

    Returns:
        Markdown with metadata, as ``huggingface_hub.ModelCard`` reads it.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="peft" if is_separate else "transformers",
        pipeline_tag="text-generation",
        tags=["unlearning", "closer-look"],
    )
    lines = [*chain.decided.values()]
    return page_template("erasure_card.md.jinja", number=number_text).render(
        card_data=data.to_yaml(),
        title=TITLE,
        sha256=sha256,
        served=[line for line in lines if line.kind == "served"],
        decided=[line.request_id for line in lines if line.kind == "not_known"],
    )
