"""Dashboards over Prometheus, a module each; `python -m dashboards.grafana.NAME` prints what Grafana imports."""
