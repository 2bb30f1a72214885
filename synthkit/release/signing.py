"""A steward's signature: an Ed25519 key in a PEM file, and the DSSE envelope that a statement travels in.

Keys stay files of the steward's, and nothing asks a network. The envelope (Dead Simple Signing Envelope 1.0) is made
and read by securesystemslib, which comes with the extra ``release``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkit.errors import GateFailedError, SynthkitError, UsageError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

#: What is inside of the envelope.
PAYLOAD_TYPE = "application/vnd.in-toto+json"
#: Holds the passphrase of an encrypted private key where nobody can be asked for it.
PASSPHRASE = "SYNTHKIT_KEY_PASSPHRASE"

_MAKE = "openssl genpkey -algorithm ed25519 -out steward.key"
_PUBLISH = "openssl pkey -in steward.key -pubout -out steward.pub"


def load_private(path: Path, ask: Callable[[str], str] | None = None) -> CryptoSigner:
    """The key that signs, of a PEM file (PKCS #8).

    Parameters
    ----------
    ask : asked for the passphrase of an encrypted key where the environment does not hold it; gets a question.

    Raises :class:`UsageError` unless it is a private Ed25519 key that can be opened.
    """
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    data = _read(path)
    secret = None
    if b"ENCRYPTED" in data:
        secret = os.environ.get(PASSPHRASE) or (ask(f"Passphrase of {path}: ") if ask else None)
        if not secret:
            raise UsageError(
                f"The key {path} is encrypted.", "Nobody can be asked for its passphrase.", f"Set {PASSPHRASE}."
            )
    if b"PUBLIC KEY" in data:
        raise UsageError(f"{path} is a public key.", "With it nothing can be signed.", "Give the private key.")
    try:
        key = load_pem_private_key(data, secret.encode() if secret else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if secret:
            raise UsageError(
                f"The key {path} cannot be opened.",
                "The passphrase is wrong, or the file is damaged.",
                f"Check {PASSPHRASE}, which is taken where it is set, or the passphrase that you gave.",
            ) from error
        raise UsageError(
            f"The key {path} cannot be opened.", "It is no private key in PEM.", f"Make one with `{_MAKE}`."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _other_kind(path)
    signer: CryptoSigner = CryptoSigner(key)
    return signer


def load_public(path: Path) -> SSlibKey:
    """The key that signatures are checked with, of a PEM file; :class:`UsageError` unless it is public and Ed25519."""
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise UsageError(
            f"{path} is a private key.",
            "It belongs to the steward alone; a signature is checked with the public one.",
            f"Give the public key: `{_PUBLISH}` makes it.",
        )
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"The key {path} cannot be opened.", "It is no public key in PEM.", f"`{_PUBLISH}` makes one."
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _other_kind(path)
    public: SSlibKey = SSlibKey.from_crypto(key)
    return public


def key_name(key: Any) -> str:
    """What a key is called in messages: the beginning of its id, a digest."""
    return str(key.keyid)[:16]


def enveloped(payload: bytes, signer: CryptoSigner) -> bytes:
    """A signed envelope around a statement, as JSON."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return (json.dumps(envelope.to_dict(), indent=1) + "\n").encode()


def opened(data: bytes, key: SSlibKey, whose: Path) -> bytes:
    """The statement in an envelope that was signed with this key; ``whose`` folder it is, for messages.

    Raises :class:`GateFailedError` for a damaged envelope, for another key, and for a statement that was changed.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error, VerificationError

    try:
        told = json.loads(data)
        n_signatures = len(told["signatures"])
        envelope = Envelope.from_dict(told)
        signers = sorted(map(str, envelope.signatures))
        payload, kind = bytes(envelope.payload), str(envelope.payload_type)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, Error) as error:
        raise GateFailedError(
            f"The signature of {whose} is damaged.", "It is no DSSE envelope as `release sign` writes it.", _ASK_AGAIN
        ) from error
    if n_signatures == 0:
        raise GateFailedError(
            f"{whose} is not signed.", "Its envelope has no signature.", "Ask its steward for the signed release."
        )
    if n_signatures > 1:
        raise GateFailedError(
            f"{whose} is not as it was signed.",
            f"Its envelope has {n_signatures} signatures, and `release sign` makes one.",
            _ASK_AGAIN,
        )
    if key.keyid not in signers:
        by = ", ".join(signer[:16] for signer in signers)
        raise GateFailedError(
            f"{whose} was not signed with this key.",
            f"It was signed with the key {by}; the one given is {key_name(key)}.",
            "Ask the steward for the public key, by another way than the release came.",
        )
    try:
        envelope.verify([key], threshold=1)
    except VerificationError as error:
        raise GateFailedError(
            f"The signature of {whose} does not fit its statement.", "One of the two was changed.", _ASK_AGAIN
        ) from error
    if kind != PAYLOAD_TYPE:
        raise GateFailedError(f"What was signed in {whose} is no in-toto statement.", f"It is {kind!r}.", _ASK_AGAIN)
    return payload


_ASK_AGAIN = "Do not use the data; ask the steward for the release again."


def _require() -> None:
    """:class:`UsageError` where the library that signs is not installed."""
    try:
        import cryptography
        import securesystemslib.dsse  # noqa: F401

        cryptography.__version__  # noqa: B018  (a folder of that name is no package)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            "Signing needs securesystemslib and cryptography.",
            "They are not installed here.",
            "Install synthkit-core with the extra [release].",
        ) from error


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The key {path} cannot be read.", f"{error.strerror}.", f"Give a file. New keys: `{_MAKE} && {_PUBLISH}`."
        ) from error
    if b"OPENSSH" in data or data.startswith(b"ssh-"):
        raise UsageError(
            f"{path} is a key of OpenSSH.", "Keys are read in PEM, as OpenSSL writes them.", f"Make one with `{_MAKE}`."
        )
    return data


def _other_kind(path: Path) -> SynthkitError:
    return UsageError(f"{path} is no Ed25519 key.", "Releases are signed with Ed25519.", f"Make one with `{_MAKE}`.")
