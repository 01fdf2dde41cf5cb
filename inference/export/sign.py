"""A bundle's signature: by whom its manifest, and so every byte of it, is.

Ed25519 over the bytes of ``manifest.json``, which has the SHA-256 of each other file. Keys are PEM
files, as ``openssl genpkey -algorithm ed25519`` and ``openssl pkey -pubout`` write them.
"""

from pathlib import Path
from typing import Any

from .manifest import BundleError

SIGNATURE = "manifest.sig"  # 64 bytes


def read_private_key(file: str | Path) -> Any:
    """Read the key that bundles are signed with.

    Raises:
        BundleError: the file cannot be read, is no such key, or cryptography is not installed.
    """
    from_pem = _serialization().load_pem_private_key
    return _read_key(Path(file), lambda content: from_pem(content, None), "private")


def read_public_key(file: str | Path) -> Any:
    """Read the key that a signature is checked with; errors are those of `read_private_key`."""
    return _read_key(Path(file), _serialization().load_pem_public_key, "public")


def check_signature(folder: Path, content: bytes, key: Any) -> None:
    """Raise unless the manifest in a bundle was signed with the other half of a key.

    Args:
        folder: the bundle.
        content: of its manifest.
        key: of `read_public_key`.

    Raises:
        BundleError: there is no signature, or it is of another key or another manifest.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        signature = (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{folder}: not signed: it has no {SIGNATURE}") from None
    except OSError as error:
        raise BundleError(f"{folder}/{SIGNATURE}: cannot be read: {error.strerror}") from None
    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise BundleError(
            f"{folder}: not signed with this key, or changed since; nothing in it was run"
        ) from None


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise BundleError("signatures: not installed: pip install 'convax[sign]'") from None
    return serialization


def _read_key(file: Path, read: Any, half: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ed25519

    kinds = {"private": ed25519.Ed25519PrivateKey, "public": ed25519.Ed25519PublicKey}
    option = " -pubout" if half == "public" else ""
    try:
        key = read(file.read_bytes())
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror}") from None
    except TypeError:
        raise BundleError(
            f"{file}: needs a password; write a copy without one: openssl pkey -in {file}"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, kinds[half]):
        made = f"openssl pkey{option} -in" if option else "openssl genpkey -algorithm ed25519 -out"
        raise BundleError(f"{file}: no {half} key of Ed25519 in PEM; write one: {made} KEY.pem")
    return key
