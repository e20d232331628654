"""Measurements that stand in the README: every figure is made by one command, speeds as ratios inside one run."""
