"""Wait until the API server serves StreamPolicy. Runs in a pod, before the policy is made."""

import http.client
import os
import ssl
import time
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
KINDS = "/apis/lore.dev/v1alpha1"


def served() -> bool:
    server = http.client.HTTPSConnection(
        os.environ["KUBERNETES_SERVICE_HOST"],
        int(os.environ["KUBERNETES_SERVICE_PORT"]),
        context=ssl.create_default_context(cafile=ACCOUNT / "ca.crt"),
        timeout=5,
    )
    try:
        token = (ACCOUNT / "token").read_text()
        server.request("GET", KINDS, headers={"Authorization": f"Bearer {token}"})
        return server.getresponse().status == http.client.OK
    except OSError as error:
        print(f"{error}; trying on", flush=True)
        return False
    finally:
        server.close()


while not served():
    # Discovery has no watch, and to watch the definition would take a right of its own.
    time.sleep(0.5)  # the API server may be away: there is no event to await
