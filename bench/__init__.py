"""The performance report (docs/performance.md): whole payments beside a floor, measured in one run."""
