"""What people use instead of lab, written with the same care; `benchmarks.sweep` runs these scripts."""
