#!/usr/bin/env python3
"""Verifies one delivery with the reference library of Standard Webhooks.

Reads `{"secret", "headers", "body"}` as JSON; writes the id of the event, or `refused: ` and why.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

delivery = json.load(sys.stdin)
try:
    event = Webhook(delivery["secret"]).verify(delivery["body"], delivery["headers"])
    print(event["id"])
except WebhookVerificationError as error:
    print(f"refused: {error}")
