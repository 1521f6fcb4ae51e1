"""Proof of who sent a message and when: `Camfleet-Signature: t=UNIX,v1=HEX`.

HEX is HMAC-SHA-256, with the webhook's secret, of the time as it stands there, a dot and the body.
"""

from __future__ import annotations

import hmac

SIGNATURE = "Camfleet-Signature"
EVENT_ID = "Camfleet-Event-Id"
REVISION = "Camfleet-Event-Revision"
DELIVERY = "Camfleet-Delivery"


def signature(secret: bytes, body: bytes, time: int) -> str:
    """The value of the header.

    Args:
        secret: Of the webhook.
        body: As it is sent.
        time: Unix seconds of this attempt.
    """
    mac = hmac.digest(secret, b"%d." % time + body, "sha256").hex()
    return f"t={time},v1={mac}"
