"""Arguments and options that several verbs have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from elf_cli.cluster import completion

Job = Annotated[
    str, typer.Argument(help="Name of a job on the cluster.", autocompletion=completion.complete_job)
]
JobOrRun = Annotated[
    str,
    typer.Argument(
        help="Name of a job on the cluster, or the folder of a local run (runs/…).",
        autocompletion=completion.complete_job,
    ),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace of the job. Default: that of the context.")
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig. Default: the current one.")]
Kubeconfig = Annotated[str | None, typer.Option(help="File to use instead of $KUBECONFIG or ~/.kube/config.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="json or yaml.")]
