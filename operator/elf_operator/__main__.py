"""`python -m elf_operator`: run the operator, in a cluster or from a laptop with a kubeconfig."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence

import kopf

from elf_operator import handlers
from elf_operator.builders import Defaults

_HELP = """Watches ElfTrainingJobs and keeps their data centers alive. Inside a cluster it uses its service
account, elsewhere the current context of the kubeconfig."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="elf_operator", description=_HELP)
    parser.add_argument(
        "--namespace",
        action="append",
        default=None,
        help="watch this namespace only; may be repeated (default: $ELF_NAMESPACES, or all)",
    )
    parser.add_argument(
        "--worker-image",
        default=os.environ.get("ELF_WORKER_IMAGE", Defaults.worker_image),
        help="image of jobs that name none (default: $ELF_WORKER_IMAGE, or %(default)s)",
    )
    parser.add_argument(
        "--pull-policy",
        choices=("IfNotPresent", "Always", "Never"),
        default=os.environ.get("ELF_PULL_POLICY", Defaults.pull_policy),
        help="imagePullPolicy of the pods (default: %(default)s)",
    )
    parser.add_argument(
        "--liveness",
        metavar="URL",
        default=None,
        help="serve liveness here, such as http://0.0.0.0:8080/healthz",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    args = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stdout,
    )
    logging.getLogger("kopf").setLevel(logging.DEBUG if args.verbose else logging.WARNING)
    namespaces = args.namespace or [n for n in os.environ.get("ELF_NAMESPACES", "").split(",") if n]
    defaults = Defaults(worker_image=args.worker_image, pull_policy=args.pull_policy)
    asyncio.run(
        kopf.operator(
            registry=handlers.registry(defaults, nodes=not namespaces),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            liveness_endpoint=args.liveness,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
