"""`python -m elf_operator`: run the operator, in a cluster or from a laptop with a kubeconfig."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from elf_operator import handlers, logs
from elf_operator.builders import Defaults
from elf_operator.logging_in import kopf

_HELP = """Watches ElfTrainingJobs and keeps their data centers alive. Inside a cluster it uses its service
account, elsewhere the current context of the kubeconfig."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    args = _parser().parse_args(argv)
    logs.set_up(args.log_format, args.verbose)
    namespaces = args.namespace or [n for n in os.environ.get("ELF_NAMESPACES", "").split(",") if n]
    defaults = Defaults(
        worker_image=args.worker_image,
        pull_policy=args.pull_policy,
        network_policies=args.network_policies,
        figures_from=tuple(args.figures_from),
    )
    settings = handlers.Settings(
        defaults, namespaces, args.lease, args.listen, args.dashboard, args.master_key
    )
    asyncio.run(
        kopf.operator(
            registry=handlers.registry(settings),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
        )
    )
    return 0


def _parser() -> argparse.ArgumentParser:
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
    _add_addresses(parser)
    _add_cluster(parser)
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    """Where it serves."""
    parser.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        type=_address,
        default=None,
        help="serve /healthz, /readyz and /metrics here, such as 0.0.0.0:8080",
    )
    parser.add_argument(
        "--dashboard",
        metavar="ADDRESS:PORT",
        type=_address,
        default=os.environ.get("ELF_DASHBOARD") or None,
        help="serve the dashboard here; it has no login: 127.0.0.1:8081 and `kubectl port-forward`"
        " (default: $ELF_DASHBOARD, or none)",
    )


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    """What it uses of the cluster beside jobs, and what it tells."""
    parser.add_argument(
        "--lease",
        metavar="NAMESPACE/NAME",
        type=_object,
        default=os.environ.get("ELF_LEASE"),
        help="act only while holding this Lease, so that several may run (default: $ELF_LEASE, or none)",
    )
    parser.add_argument(
        "--master-key",
        metavar="NAMESPACE/NAME",
        type=_object,
        default=os.environ.get("ELF_MASTER_KEY"),
        help="Secret with the key that all pods' identities come from, filled if empty; without it pods talk"
        " without encryption (default: $ELF_MASTER_KEY, or none)",
    )
    parser.add_argument(
        "--network-policies",
        action="store_true",
        default=os.environ.get("ELF_NETWORK_POLICIES") == "true",
        help="give each job a NetworkPolicy (default: if $ELF_NETWORK_POLICIES is true)",
    )
    parser.add_argument(
        "--figures-from",
        metavar="JSON",
        type=_peers,
        default=os.environ.get("ELF_FIGURES_FROM") or "[]",
        help="who the NetworkPolicy of a new job lets to its figures: a list of peers, such as"
        ' [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]'
        " (default: $ELF_FIGURES_FROM, or nobody)",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=os.environ.get("ELF_LOG_FORMAT", "text"),
        help="json: one object a line (default: $ELF_LOG_FORMAT, or %(default)s)",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"is {text!r}, ADDRESS:PORT is expected")
    return host.strip("[]"), int(port)


def _object(text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise argparse.ArgumentTypeError(f"is {text!r}, NAMESPACE/NAME is expected")
    return namespace, name


def _peers(text: str) -> list[dict[str, Any]]:
    """What is in a peer is for the API server to judge."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is {text!r}, JSON is expected: {error}") from None
    parts = {"podSelector", "namespaceSelector", "ipBlock"}
    if not isinstance(found, list) or not all(isinstance(p, dict) and p and p.keys() <= parts for p in found):
        raise argparse.ArgumentTypeError(f"is {text!r}, a list of objects with {sorted(parts)} is expected")
    return found


if __name__ == "__main__":
    sys.exit(main())
