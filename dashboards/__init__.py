"""What is looked at: Grafana dashboards as code, and the release console."""
