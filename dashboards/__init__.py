"""Grafana dashboards, and the same queries without Grafana.

``make dashboards`` writes them as ``charts/lore/dashboards/*.json``. The chart installs those
files, and any Grafana imports them.
"""
