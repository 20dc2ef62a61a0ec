"""Several hosts: every process runs the same program on devices of its own, and reads its own share."""
