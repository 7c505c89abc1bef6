"""The whole system on a virtual clock: real protocol and store code, simulated everything else."""
