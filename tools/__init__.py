"""What a user or maintainer runs beside the package: a broker to try things on, pictures, dashboards, manifests."""
