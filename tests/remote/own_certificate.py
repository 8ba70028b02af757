"""A self-signed certificate for the tests, and the server settings for it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class OwnCertificate(NamedTuple):
    """A self-signed certificate for this machine."""

    key: str
    certificate: str

    @classmethod
    def made(cls, directory: Path) -> OwnCertificate:
        """Make a certificate. Skips the test if that is impossible."""
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("needs openssl")
        key, certificate = str(directory / "key"), str(directory / "certificate")
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return cls(key, certificate)

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings of a server that uses the certificate."""
        files = {"tls-cert-file": self.certificate, "tls-key-file": self.key, "tls-ca-cert-file": self.certificate}
        return {**files, "tls-auth-clients": "no"}

    def of_server(self, port: int) -> dict[str, str]:
        """Return the settings of a server that accepts only TLS connections, even from other servers."""
        return {"port": "0", "tls-port": str(port), "tls-replication": "yes", **self.settings}

    @property
    def of_client(self) -> dict[str, Any]:
        """Return the arguments of a client that trusts the certificate."""
        return {"ssl": True, "ssl_ca_certs": self.certificate}


def options(settings: dict[str, str]) -> list[str]:
    """Return settings in the form of the command line."""
    return [word for name, value in settings.items() for word in (f"--{name}", value)]
