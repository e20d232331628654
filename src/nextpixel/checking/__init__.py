"""The parts of `nextpixel.checks`: what is looked at, and how a finding is worded."""
