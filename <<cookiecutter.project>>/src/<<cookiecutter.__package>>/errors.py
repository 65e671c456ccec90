"""The two ways in which a command ends early, each with one line that says what is wrong and how to mend it."""


class Refused(Exception):
    """The gate, or the data contract, said no. The command exits with 1."""

    code = 1


class Misuse(Exception):
    """Usage, configuration or environment is wrong. The command exits with 2."""

    code = 2
