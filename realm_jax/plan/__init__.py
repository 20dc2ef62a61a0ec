"""What a run will need and cost, said before it is paid for."""
