"""How runs are computed: one training step, batches of runs, the plan of a study, whoever works on it, the store."""
