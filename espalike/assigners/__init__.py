"""Anything besides the learned model that turns molecules into an `MMSystem`."""


class AssignerError(ValueError):
    """A molecule that an assigner has no parameters for; the message names the molecule and the reason."""
