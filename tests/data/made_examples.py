"""Data sets of examples that lie in memory, for tests of what only asks for lengths and reads."""

import numpy as np

from agentprm_jax.data.batch import Example


class Listed:
    """A list as `packing.Examples`."""

    digest = "listed"

    def __init__(self, examples: list[Example]):
        self._examples = examples
        self.lengths = np.asarray([len(one.encoded.tokens) for one in examples], np.int32)
        self.steps = np.asarray([len(one.encoded.readouts) for one in examples], np.int32)

    def read(self, places):
        return [self._examples[place] for place in places]
