"""A password that stands in a file, which is read again for each new connection: it may have been changed meanwhile."""

from __future__ import annotations

from pathlib import Path

from redis.credentials import CredentialProvider

from ..errors import StoreUnavailable


class PasswordFile(CredentialProvider):
    """Gives the client library a user's name, which may be empty, and the password in a file."""

    def __init__(self, path: Path, username: str = "") -> None:
        self._path = path
        self._username = username

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """The password, without the end of its line, after the user's name if there is one.

        Raises StoreUnavailable if the file cannot be read now: whoever changes it may not be done.
        """
        try:
            password = self._path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as fault:
            reason = fault.strerror if isinstance(fault, OSError) else "it is no UTF-8"
            raise StoreUnavailable(
                f"the password file {self._path} cannot be read: {reason}",
                hint="Name a text file that the user of this process may read.",
            ) from None
        if not password:
            raise StoreUnavailable(f"the password file {self._path} is empty", hint="Put the password into it.")
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same: a small file of this machine is read in no time."""
        return self.get_credentials()
