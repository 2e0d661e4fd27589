"""The log on an Apache Kafka cluster."""
