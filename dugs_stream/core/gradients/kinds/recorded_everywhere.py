"""Fast path of layers whose weights the model uses outside of their calls too: a head that reads an embedding's weight.

As `core.gradients.kinds.recorded`, but products are recorded in the whole pass of the model, wherever they are. Never
the first choice: it looks at every function that the model calls.
"""

from dugs_stream.core.gradients.kinds.recorded import add_terms, takes
from dugs_stream.core.gradients.kinds.recorded import formed_everywhere as formed

__all__ = ["add_terms", "formed", "takes"]
