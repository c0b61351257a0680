"""Local mode: the same planner, the same manifests, the same worker; pods are processes of this machine."""
