"""The certificate with which the server speaks TLS in the name of WhatsApp; clients under test trust it, and nothing else."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

HOSTS = ("web.whatsapp.com", "*.whatsapp.net")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate and its key, both files."""

    path: Path
    key_path: Path

    @classmethod
    def create(cls, folder: Path) -> "Certificate":
        """Make one for two days, by the `openssl` command."""
        certificate = cls(folder / "certificate.pem", folder / "certificate.key")
        names = ",".join(f"DNS:{host}" for host in HOSTS)
        command = [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", "/CN=loopback", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(certificate.key_path), "-out", str(certificate.path)),
        ]
        subprocess.run(command, check=True, capture_output=True)
        return certificate

    def context(self) -> ssl.SSLContext:
        """For the server's side of connections."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key_path)
        return context
