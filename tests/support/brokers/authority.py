"""A certificate authority for one test run, and the files that brokers and clients have of it.

    authority = Authority(folder)
    authority.broker_pem     key and certificate for 127.0.0.1 and no other name, as Kafka's PEM key store wants them
    authority.client("dugs") certificate and key of a client
    Authority(elsewhere)     another authority that nobody here trusts

Keys are made anew each time; nothing here outlives its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True, slots=True)
class Identity:
    """A client's certificate and key, each in a file of its own, the key under a password or open."""

    certificate: Path
    key: Path


class Authority:
    """One throwaway authority with its own folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._authority = trustme.CA()

    @cached_property
    def certificate(self) -> Path:
        """What a client names as ssl_cafile to trust this authority."""
        path = self.folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(path))
        return path

    @cached_property
    def broker_pem(self) -> Path:
        """A broker's key, certificate and chain in one file."""
        issued = self._authority.issue_cert("127.0.0.1", common_name="broker")
        path = self.folder / "broker.pem"
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        path.write_bytes(_pkcs8(issued.private_key_pem.bytes(), None) + chain)
        return path

    def client(self, name: str, password: str | None = None) -> Identity:
        """A client's certificate; its name is the principal's, User:CN=…"""
        issued = self._authority.issue_cert(f"{name}@test.invalid", common_name=name)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(_pkcs8(issued.private_key_pem.bytes(), password))
        key.chmod(0o600)
        return Identity(certificate, key)


def _pkcs8(pem: bytes, password: str | None) -> bytes:
    """The same key in the form that Java reads, which is not the one that OpenSSL writes by habit."""
    key = serialization.load_pem_private_key(pem, None)
    kept: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        kept = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kept)
