"""What runs in the pods of a job: homes, mini-data-centers (MDCs) and the North Pole data center (NPDC)."""
