"""The two exceptions a user may see. Everything else that escapes is a bug of ours (exit status 1)."""


class UserError(Exception):
    """The user's input cannot be used: exit status 2.

    The message is one sentence (or a short list) that says what was expected, what was found and what to do.
    """

    exit_status = 2


class EnvironmentLack(UserError):
    """The machine lacks something (Java, network, disk, memory, a model): exit status 3."""

    exit_status = 3


def nearest(name: str, valid: list[str]) -> str:
    """' (did you mean X?)' for the nearest valid name, or ''."""
    import difflib

    found = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" (did you mean {str(found[0])!r}?)" if found else ""
