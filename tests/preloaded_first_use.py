"""What libraries other than MLflow do at their first use: narwhals imports a part for pandas, for scikit-learn; and
Great Expectations compiles the templates of its pages.

Forks of a process that has imported this have the part, and load the code where they would compile each template. A
command that is a new interpreter does both by itself, as it does for users.
"""

from functools import partial

import narwhals.stable.v2
import pandas
from great_expectations.render.view import view
from jinja2 import BytecodeCache

narwhals.stable.v2.from_native(pandas.DataFrame({"x": [1.0]})).select(narwhals.stable.v2.col("x"))


class Memory(BytecodeCache):
    """Compiled templates; Jinja itself sees to it that one belongs to its source."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket) -> None:
        if bucket.key in self.kept:
            bucket.bytecode_from_string(self.kept[bucket.key])

    def dump_bytecode(self, bucket) -> None:
        self.kept[bucket.key] = bucket.bytecode_to_string()


view.Environment = partial(view.Environment, bytecode_cache=Memory())
for _view in (view.DefaultJinjaPageView, view.DefaultJinjaIndexPageView):
    _templates = _view().env
    for _name in _templates.list_templates(extensions=["j2"]):
        _templates.get_template(_name)
