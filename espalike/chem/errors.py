"""The error of everything that is wrong with a molecule."""


class ChemistryError(ValueError):
    """A molecule or file that cannot be used; the message says which, what was expected, what came and what to do."""
