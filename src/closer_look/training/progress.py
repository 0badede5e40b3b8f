"""The progress of a training."""

from __future__ import annotations

from transformers import TrainerCallback

from closer_look.system.progress import progress_bar


class ProgressBar(TrainerCallback):
    """A progress bar over the steps that shows the loss."""

    def __init__(self, description: str) -> None:
        """Set up.

        Args:
            description: one or two words about the training.
        """
        self.description = description

    def on_train_begin(self, args, state, control, **kwargs):
        """Begin at the first step, or where the training is resumed."""
        self.bar = progress_bar(state.max_steps, self.description, "step")
        self.bar.n = self.bar.initial = state.global_step

    def on_step_end(self, args, state, control, **kwargs):
        """Count a step."""
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Show the loss of the step."""
        if "loss" in logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        """Leave the bar as it is."""
        self.bar.close()
