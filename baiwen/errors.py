"""The one error that is meant for a person.

A mistake of the user (a misspelt key, a missing file, a damaged checkpoint) is a `UserError`: the
command line prints its message without a traceback and exits with 2. Everything else that goes
wrong is ours and keeps its traceback.

    raise UserError("recipes/tiny/5-pretrain.toml: steps = -3 must be above 0")
"""


class UserError(ValueError):
    """A message for a person: what is wrong, where, why, and how to mend it."""


class PassingError(UserError):
    """One that may be gone when the same is tried again: a store or a file system failed."""
