"""Tasks of rows in memory, and as the files that the processes of a run read."""
