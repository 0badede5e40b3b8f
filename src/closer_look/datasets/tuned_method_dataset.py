"""The dataset of a method with the settings that tuning has found."""

from __future__ import annotations

from kedro_datasets.json import JSONDataset

from closer_look.datasets.places import place_of
from closer_look.errors import InputError
from closer_look.parameters.methods import MethodParameters


class TunedMethodDataset(JSONDataset):
    """The parameters of a method, as JSON, checked when they are read.

    Example::

        "{scenario}.{cell}.tuned_method":
          type: closer_look.datasets.tuned_method_dataset.TunedMethodDataset
          filepath: data/05_model_input/people/{scenario}/{cell}/tuned_method.json
    """

    def load(self) -> MethodParameters:
        """Read the method.

        Raises:
            InputError: the file does not hold one.
        """
        try:
            return MethodParameters.model_validate(super().load())
        except ValueError as error:
            raise InputError(
                f"{place_of(self)} holds no method ({error}); delete it, and tune again"
            ) from None

    def save(self, data: MethodParameters) -> None:
        """Write the method, without what it leaves open."""
        super().save(data.model_dump(exclude_none=True, exclude={"space"}))
