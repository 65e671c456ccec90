"""What the team's code may import from the machinery: this module alone keeps its names from version to version.

Frozen      the class that ``Params`` in model.py derives from: frozen, and strict about keys and types
Misuse      raise it with one line that says what is wrong and how to mend it: the command ends with exit code 2
"""

from conveyor.core.errors import Misuse
from conveyor.core.frozen import Frozen

__all__ = ["Frozen", "Misuse"]
