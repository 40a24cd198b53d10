"""Every figure that Accord quotes, as a script. Results land in bench/results/."""
