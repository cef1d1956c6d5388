"""Signs deliveries as Standard Webhooks defines it, which proves to a receiver that a body is authentic and new.

The signed text is `{webhook-id}.{webhook-timestamp}.{body}`; the signature is HMAC-SHA256 with the base64-decoded
secret.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(id: str, at: int, body: str, with_secrets: Iterable[str]) -> dict[str, str]:
    """Return the signed headers. `at` is in Unix seconds. Each secret makes a signature; a receiver needs to know only
    one of them."""
    signatures = [f"v1,{sign(secret, id, at, body)}" for secret in with_secrets]
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}


def sign(secret: str, id: str, at: int, body: str) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.digest(key, f"{id}.{at}.{body}".encode(), hashlib.sha256)).decode()
