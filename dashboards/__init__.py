"""What people look at: Grafana dashboards, and the same queries without Grafana.

The dashboards are written here and made into ``charts/lore/dashboards/*.json`` by
``make dashboards``; the chart ships those files, and anybody's Grafana imports them.
"""
