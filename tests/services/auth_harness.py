"""Those who hand out credentials: a file of API keys, and an issuer of JWTs."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lore import apikeys

SECRET = "tell nobody but the other edges of it"
ISSUER, AUDIENCE = "https://issuer.example", "lore"


class KeyRing:
    """API keys, and the file that edges know them by."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._write()

    def new(self, subject: str) -> str:
        key = apikeys.new_key()
        self._lines.append(f"{apikeys.digest(key)} {subject}\n")
        self._write()
        return key

    @property
    def settings(self) -> dict[str, Any]:
        return {"auth": "required", "secret": SECRET, "api_keys_file": str(self.path)}

    def _write(self) -> None:
        self.path.write_text("# who may come in\n" + "".join(self._lines))


class Issuer:
    """Signs with one key of its set, by default the first."""

    def __init__(self, *algorithms: str) -> None:
        self.algorithms = algorithms or ("ES256",)
        self.private = [_MAKING[name[:2]]() for name in self.algorithms]

    @property
    def settings(self) -> dict[str, Any]:
        """For an edge; LORE_JWT_JWKS goes with them."""
        said = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
        return {"auth": "required", "secret": SECRET} | said

    def jwks(self) -> str:
        keys = [
            jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
            | {"kid": f"key-{number}", "use": "sig", "alg": name}
            for number, (name, key) in enumerate(zip(self.algorithms, self.private, strict=True))
        ]
        return json.dumps({"keys": keys})

    def public_pem(self, number: int = 0) -> bytes:
        return (
            self.private[number]
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )

    def signed(self, head: object, payload: bytes) -> str:
        """A token whose parts are no concern of the library's that signs it; ES256."""
        signing = f"{_part(head)}.{_base64(payload)}"
        signature = jwt.get_algorithm_by_name("ES256").sign(signing.encode(), self.private[0])
        return f"{signing}.{_base64(signature)}"

    def token(self, subject: Any = "alice", *, number: int = 0, **claims: Any) -> str:
        """A claim that is None is left out."""
        chosen = {
            "sub": subject,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": int(time.time()) + 60,
        } | claims
        return jwt.encode(
            {name: value for name, value in chosen.items() if value is not None},
            self.private[number],
            algorithm=self.algorithms[number],
            headers={"kid": f"key-{number}"},
        )


_MAKING: dict[str, Callable[[], Any]] = {
    "RS": lambda: rsa.generate_private_key(65537, 2048),
    "PS": lambda: rsa.generate_private_key(65537, 2048),
    "ES": lambda: ec.generate_private_key(ec.SECP256R1()),
}


def forged(algorithm: str, secret: bytes = b"", **claims: Any) -> str:
    """A token that its bearer made: unsigned, or with a secret that anyone can read."""
    claims = {"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 60} | claims
    parts = [_part({"alg": algorithm, "typ": "JWT", "kid": "key-0"}), _part(claims)]
    signed = ".".join(parts).encode()
    signature = hmac.digest(secret, signed, "sha256") if secret else b""
    return ".".join([*parts, _base64(signature)])


def _part(data: object) -> str:
    return _base64(json.dumps(data).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bearer(credentials: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credentials}"}
