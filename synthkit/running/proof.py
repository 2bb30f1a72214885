"""Whether a result was written by the runner, or by what it ran.

The host lays a secret in the run folder; the runner takes it away before it imports any plugin, and signs its result
with it. A method that writes a ``result.json`` of its own and ends the process, or changes the runner's afterwards, has
no secret to sign with. It runs in the runner's process, however, and one that searches its memory may find the secret:
what that cannot change is what the host reckons itself (:mod:`synthkit.running.verbs.admission`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from synthkit.files import create_exclusively, discard, read_untrusted

#: The file in a run folder that holds the secret until the runner takes it.
SECRET_NAME = ".secret"
_KEY = "proof"
_BYTES = 32


def lay_secret(folder: Path) -> bytes:
    """Lay a new secret in a run folder, for the next runner there. Returns it."""
    discard(folder / SECRET_NAME)
    secret = secrets.token_bytes(_BYTES)
    with create_exclusively(folder / SECRET_NAME) as file:
        file.write(secret)
    return secret


def take_secret(folder: Path) -> bytes:
    """Take the secret of a run folder away; empty where no host has laid one."""
    secret = b""
    with suppress(OSError):
        secret = read_untrusted(folder / SECRET_NAME, _BYTES)
    discard(folder / SECRET_NAME)
    return secret


def signed(result: Mapping[str, Any], secret: bytes) -> dict[str, Any]:
    """A result with its proof, or as it is where there is no secret."""
    plain: dict[str, Any] = json.loads(json.dumps(result, allow_nan=False))  # as the host will read it
    return {**plain, _KEY: _proof(plain, secret)} if secret else plain


def is_signed(result: Mapping[str, Any], secret: bytes) -> bool:
    """Whether who wrote this result had the secret."""
    told = result.get(_KEY)
    return isinstance(told, str) and hmac.compare_digest(told.encode(errors="replace"), _proof(result, secret).encode())


def unsigned(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result without its proof."""
    return {key: value for key, value in result.items() if key != _KEY}


def _proof(result: Mapping[str, Any], secret: bytes) -> str:
    """HMAC-SHA256 (RFC 2104) of canonical JSON."""
    text = json.dumps(unsigned(result), sort_keys=True, separators=(",", ":"))
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
