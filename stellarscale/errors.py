"""Errors that say what, where, the value seen, the value needed and the likely cause."""

from __future__ import annotations


class StellarscaleError(Exception):
    """Base of every error this package raises on purpose.

    Parameters
    ----------
    what : str
        One sentence: what went wrong.
    where : str, optional
        File, column, partition or row, as exactly as known.
    seen, needed : object, optional
        The value met and the value that would have been accepted.
    cause : str, optional
        The likely cause, and what the user can do.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        seen: object = None,
        needed: object = None,
        cause: str | None = None,
    ) -> None:
        self.what, self.where, self.seen, self.needed, self.cause = what, where, seen, needed, cause
        super().__init__(self.__str__())

    def __str__(self) -> str:
        parts = [_sentence(self.what)]
        for name, value in (("Where", self.where), ("Seen", self.seen), ("Needed", self.needed)):
            if value is not None:
                parts.append(_sentence(f"{name}: {value}"))
        if self.cause:
            parts.append(_sentence(f"Likely cause: {self.cause}"))
        return " ".join(parts)

    def __reduce__(self):  # keyword arguments must survive the way back from a worker
        return _rebuild, (type(self), self.what, self.where, self.seen, self.needed, self.cause)


def _sentence(text: str) -> str:
    """One line that ends as a sentence does; messages of other libraries come with line breaks and full stops."""
    line = " ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if line.endswith((".", "?", "!")) else f"{line}."


def _rebuild(cls, what, where, seen, needed, cause):
    return cls(what, where=where, seen=seen, needed=needed, cause=cause)


class InputError(StellarscaleError, ValueError):
    """A file or value that the user gave cannot be used."""


class SchemaError(StellarscaleError, ValueError):
    """A table does not have the columns, units or types its schema declares."""


class ConfigError(StellarscaleError, ValueError):
    """A job file or option is wrong."""


class CatalogError(StellarscaleError, ValueError):
    """A directory is not the catalogue it should be."""


class ModelError(StellarscaleError, ValueError):
    """A model file does not fit the job, or is damaged."""


class RowCountError(StellarscaleError, RuntimeError):
    """Rows were lost or made between two steps; always a bug or a damaged file."""


class RunError(StellarscaleError, RuntimeError):
    """A run ended with work missing."""
