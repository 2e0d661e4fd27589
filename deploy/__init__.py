"""What runs beside the daemon: dashboards, rules, service files. Nothing in here is part of the package."""
