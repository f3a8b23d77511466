"""The error for molecules and files of molecules."""


class ChemistryError(ValueError):
    """A molecule or file that cannot be used; the message says which, what was expected, what came, what to do."""
