"""Training runs: open what the config names, hand it to the loop, leave a folder that explains itself."""
