"""The factor that lifts a loss, and so its gradients, into the range of fp16.

It doubles after many steps that went well and halves when a gradient overflows. The step that overflowed is taken
again from the same batch, so that no document is lost and every step of a run moves the weights.

Source: Micikevicius et al. 2018, arXiv:1710.03740; GPT-JT began at 32768.
"""

from dataclasses import dataclass

LARGEST = 2.0**24
STEPS_TO_DOUBLE = 2000


@dataclass(slots=True)
class LossScale:
    """A power of two, and how long it has served."""

    factor: float = 32768.0
    good_steps: int = 0
    """Steps since it last changed."""

    def lower(self) -> bool:
        """Halve it after an overflow; False where it is 1 already, and the gradient is to blame."""
        if self.factor <= 1.0:
            return False
        self.factor, self.good_steps = self.factor / 2, 0
        return True

    def count_step(self) -> None:
        """Note a step that went well."""
        self.good_steps += 1
        if self.good_steps == STEPS_TO_DOUBLE and self.factor < LARGEST:
            self.factor, self.good_steps = self.factor * 2, 0
