# SPDX-License-Identifier: GPL-2.0-or-later
"""Which occasions of a trigger an event takes: counts, periods, probabilities. One state machine per event and vCPU."""

from __future__ import annotations

from random import Random

from allstop.vm.events.vocabulary import Event


class Selector:
    """Decides for event number `index` on `vcpu` of a scenario with `seed`. The same occasions in the same order give
    the same decisions."""

    def __init__(self, event: Event, seed: int, index: int, vcpu: int) -> None:
        self._event = event
        self._random = Random(f"{seed}/{index}/{vcpu}")
        self._occasions = 0
        self._taken = 0

    @property
    def is_over(self) -> bool:
        """The event will take no further occasion."""
        return self._event.times is not None and self._taken >= self._event.times

    def takes(self) -> bool:
        """The trigger has fired: whether the event happens."""
        if self.is_over:
            return False
        event, occasion = self._event, self._occasions
        self._occasions += 1
        if occasion < event.skip or (occasion - event.skip) % event.every:
            return False
        if event.probability < 1.0 and self._random.random() >= event.probability:
            return False
        self._taken += 1
        return True
