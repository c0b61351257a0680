"""Run by `helm test`, with no more than Python has: the CRD is served, and the operator is ready."""

import json
import os
import ssl
import sys
import time
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
GROUP = "/apis/northpole.dev/v1alpha1"
SECONDS = 60.0


def api(path):
    """What the API server says."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    where = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    with open(f"{ACCOUNT}/token") as file:
        asked = urllib.request.Request(where + path, headers={"Authorization": f"Bearer {file.read()}"})
    trusted = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    with urllib.request.urlopen(asked, timeout=5, context=trusted) as answer:
        return json.load(answer)


def crd_is_served():
    """Raises ValueError unless ElfTrainingJobs can be had."""
    served = sorted(resource["name"] for resource in api(GROUP)["resources"])
    if "elftrainingjobs" not in served:
        raise ValueError(f"{GROUP} serves {served}, and no elftrainingjobs")


def operator_is_ready():
    """Raises OSError unless it says so."""
    with urllib.request.urlopen(os.environ["READYZ"], timeout=5) as answer:
        answer.read()


def passes(check, seconds=SECONDS):
    """Whether the check passes in time; says what came of it."""
    name, deadline = check.__name__.replace("_", " "), time.monotonic() + seconds
    while True:
        try:
            check()
            print(f"ok      {name}", flush=True)
            return True
        except (OSError, ValueError, KeyError) as error:
            if time.monotonic() > deadline:
                print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
                return False
            time.sleep(1)


if __name__ == "__main__":
    checks = [crd_is_served, *([operator_is_ready] if os.environ.get("READYZ") else [])]
    sys.exit(not all([passes(check) for check in checks]))
