"""Ready-made actors, written as any user would write them: with the public names of angelrt and nothing else."""
